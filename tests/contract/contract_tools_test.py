"""tools/api_image.py and tools/api_docs.py on changed copies of the API: each breach is found, each
allowed change passes. And docs/compatibility.md names what it covers."""
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import api_docs  # noqa: E402

GENERATION = "proto/monet/v1/generation.proto"
MASK = "proto/monet/v1/mask.proto"


@pytest.fixture
def copy(tmp_path):
    """The parts of the repository that the tools read."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    for name in ("VERSION", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def edit(root, file, before, after):
    text = (root / file).read_text("utf-8")
    assert before in text
    (root / file).write_text(text.replace(before, after, 1), "utf-8")


def image(root, command):
    return subprocess.run(
        [sys.executable, "-B", ROOT / "tools/api_image.py", command, "--root", root],
        capture_output=True, text=True)


def docs(root, *arguments):
    return subprocess.run(
        [sys.executable, "-B", ROOT / "tools/api_docs.py", "--proto", root / "proto", "--out",
         root / "api.md", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("before, after", [
    ("  optional double min_p = 4;", "  optional float min_p = 4;"),
    ("  optional double min_p = 4;", "  optional double minimum_p = 4;"),
    ("  optional double min_p = 4;", "  optional double min_p = 40;"),
    ("  optional double min_p = 4;", "  reserved 4;"),
    ("  FINISH_REASON_LENGTH = 2;", "  FINISH_REASON_LENGTH = 3;"),
    ("returns (stream GenerateStreamResponse)", "returns (GenerateStreamResponse)"),
    ("  rpc Score(ScoreRequest) returns (ScoreResponse);", ""),
])
def test_a_breaking_change_is_found(copy, before, after):
    edit(copy, GENERATION, before, after)
    result = image(copy, "check")
    assert result.returncode == 1, result.stdout
    assert "generation.proto" in result.stdout
    assert "breaks 0.1.0.binpb" in result.stderr


def test_additions_and_comments_pass(copy):
    edit(copy, GENERATION, "  FINISH_REASON_LENGTH = 2;",
         "  FINISH_REASON_LENGTH = 2;\n  // New.\n  FINISH_REASON_NEW = 3;")
    edit(copy, GENERATION, "message TokenIds {",
         "message TokenIds {\n  // New.\n  optional int32 first = 1000;")
    # What was reserved for it may come.
    edit(copy, MASK, '  reserved 3;\n  reserved "factors";',
         "  // Scales experts.\n  repeated double factors = 3;")
    for command in ("lint", "check"):
        result = image(copy, command)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("before, after", [
    ("  // Ids from 0 to the vocabulary minus 1.\n  repeated int32 ids = 1;",
     "  repeated int32 ids = 1;"),
    ("FINISH_REASON_UNSPECIFIED", "FINISH_REASON_NONE"),
    ("service GenerationService", "service Generation"),
])
def test_lint_finds(copy, before, after):
    edit(copy, GENERATION, before, after)
    result = image(copy, "lint")
    assert result.returncode == 1
    assert "generation.proto" in result.stdout


def test_images_are_written_until_released(copy):
    (copy / "VERSION").write_text("0.2.0\n")
    assert "CHANGELOG.md has no version 0.2.0" in image(copy, "write").stderr
    changelog = (copy / "CHANGELOG.md").read_text("utf-8")
    (copy / "CHANGELOG.md").write_text("## [0.2.0] - unreleased\n\n" + changelog, "utf-8")
    edit(copy, GENERATION, "message TokenIds {",
         "message TokenIds {\n  // New.\n  optional int32 first = 1000;")
    assert image(copy, "write").returncode == 0
    assert image(copy, "check").returncode == 0
    # Both images hold: 0.2.0 has the field.
    edit(copy, GENERATION, "  // New.\n  optional int32 first = 1000;", "")
    assert "breaks 0.2.0.binpb" in image(copy, "check").stderr
    edit(copy, "CHANGELOG.md", "## [0.2.0] - unreleased", "## [0.2.0] - 2027-01-31")
    assert "was released on 2027-01-31" in image(copy, "write").stderr
    (copy / "proto/released/0.2.0.binpb").unlink()
    assert "version 0.2.0 of 2027-01-31 has no image" in image(copy, "check").stderr


FIXTURE = """\
// What a | b means.

syntax = "proto3";

package monet.v1;

// Does things.
service ThingService {
  // Streams <s> and `<s>`.
  rpc Do(DoRequest) returns (stream DoResponse);
}

// Asks.
//
// Twice.
message DoRequest {
  // Plain.
  int32 plain = 1;
  // Optional,
  // on two lines.
  optional double maybe = 2;
  // One of two.
  oneof choice {
    // First.
    string first = 3;
    // Second.
    Inner second = 4;
  }
  // Pairs.
  map<int32, Inner> pairs = 5;
  // Many.
  repeated Kind kinds = 6;
  // Inside.
  message Inner {}
  reserved 7, 9 to 11;
  reserved "gone";
}

// Answers.
message DoResponse {
  // Message.
  DoRequest.Inner inner = 1;
}

// Which.
enum Kind {
  // Never sent.
  KIND_UNSPECIFIED = 0;
  // The one.
  KIND_ONE = 1;
}
"""


@pytest.fixture
def small(tmp_path):
    (tmp_path / "proto/monet/v1").mkdir(parents=True)
    (tmp_path / "proto/monet/v1/thing.proto").write_text(FIXTURE, "utf-8")
    return tmp_path


def test_docs_say_what_the_proto_says(small):
    result = docs(small)
    assert result.returncode == 0, result.stderr
    lines = (small / "api.md").read_text("utf-8").split("\n")
    for line in [
            r"What a \| b means.",
            "| `Do` | [DoRequest](#dorequest) | stream of [DoResponse](#doresponse) "
            "| Streams &lt;s> and `<s>`. |",
            "| `plain` | 1 | int32 | `value` | Plain. |",
            "| `maybe` | 2 | double | `optional` | Optional, on two lines. |",
            "| `first` | 3 | string | `oneof choice` | First. |",
            "| `second` | 4 | [DoRequest.Inner](#dorequestinner) | `oneof choice` | Second. |",
            "| `pairs` | 5 | map of int32 to [DoRequest.Inner](#dorequestinner) | `map` | Pairs. |",
            "| `kinds` | 6 | [Kind](#kind) | `repeated` | Many. |",
            "`oneof choice`: One of two.",
            "Reserved: 7, 9 to 11, `gone`.",
            "### DoRequest.Inner",
            "| `inner` | 1 | [DoRequest.Inner](#dorequestinner) | `message` | Message. |",
            "| `KIND_ONE` | 1 | The one. |",
            "Twice.",
    ]:
        assert line in lines, line


def test_docs_check_finds_a_difference(small):
    assert docs(small, "--check").returncode == 1  # not written yet
    assert docs(small).returncode == 0
    assert docs(small, "--check").returncode == 0
    edit(small, "proto/monet/v1/thing.proto", "// The one.", "// The other.")
    result = docs(small, "--check")
    assert result.returncode == 1
    assert "+| `KIND_ONE` | 1 | The other. |" in result.stdout
    assert "out of date" in result.stderr


def test_docs_need_every_comment(small):
    whole = {"// Optional,": "// on two lines.", "// Asks.": "// Twice."}  # the rest of a comment
    comments = re.findall(r"^ *// .*\n", FIXTURE, re.MULTILINE)
    for comment in comments:
        if comment.strip() in whole.values():
            continue
        text = FIXTURE.replace(comment, "", 1)
        rest = whole.get(comment.strip())
        if rest:
            text = re.sub(rf"^ *{rest}\n", "", text, flags=re.MULTILINE).replace("//\n", "")
        (small / "proto/monet/v1/thing.proto").write_text(text, "utf-8")
        with pytest.raises(SystemExit, match="has no comment"):
            api_docs.render(api_docs.build(small / "proto"))


def test_compatibility_names_every_metric():
    covered = (ROOT / "docs/compatibility.md").read_text("utf-8")
    source = (ROOT / "server/metrics.cc").read_text("utf-8")
    names = set(re.findall(r'"(monet_[a-z0-9_]+)"', source))
    assert len(names) > 10
    missing = sorted(name for name in names if f"`{name}`" not in covered)
    assert not missing, f"docs/compatibility.md does not name {missing}"
