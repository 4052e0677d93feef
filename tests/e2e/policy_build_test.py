"""monetctl policy build: from texts to a policy that a server applies."""

import array
import hashlib
import json
import os
import pathlib
import random
import subprocess
import zlib

import pytest
import yaml

from policy_collect_test import CELLS, E, LABELS, documents, read
from server_process import ROOT, Server

BINARY = pathlib.Path(os.environ["MONET_SERVER_BINARY"]).with_name("monetctl")
PAPER = ["--min-tokens", 0, "--fdr", 1]


def run(*arguments, code=0):
    result = subprocess.run([BINARY, "policy", *map(str, arguments)], capture_output=True,
                            text=True, timeout=120)
    assert result.returncode == code, (result.stdout, result.stderr)
    return result.stdout if code == 0 else result.stderr


def build(*arguments, code=0):
    output = run("build", "--json", *arguments, code=code)
    return json.loads(output) if code == 0 else output


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Statistics of the documents, of the same with shuffled labels, and of scores."""
    root = tmp_path_factory.mktemp("collected")
    server = Server(root)
    labels, texts = zip(*documents())
    shuffled = list(labels)
    random.Random(4).shuffle(shuffled)
    data = {"labels": [{"label": a, "text": b} for a, b in zip(labels, texts)],
            "shuffled": [{"label": a, "text": b} for a, b in zip(shuffled, texts)],
            "scores": [{"score": float(a == "german"), "text": b} for a, b in dict.fromkeys(
                zip(labels, texts)) if b != "Hallo"]}
    for name, lines in data.items():
        (root / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
        run("collect", "--server", server.address, "--data", root / f"{name}.jsonl", "--out",
            root / name)
    assert server.stop() == 0
    return root


def removed(folder, name, version=1):
    bitmap = zlib.decompress((folder / name / f"{version}.mask").read_bytes())
    return {bit for bit in range(8 * len(bitmap)) if bitmap[bit // 8] >> bit % 8 & 1}


def sums(path, kind="weights", code="Q"):
    """{label: [both halves' sum of each expert]}, {label: tokens}"""
    tensors, about = read(path.read_bytes())
    values = array.array(code, tensors[kind])
    result = {}
    for n, entry in enumerate(about["labels"]):
        first = 2 * n * CELLS
        result[entry["label"]] = [values[first + e] + values[first + CELLS + e]
                                  for e in range(CELLS)]
    return result, {entry["label"]: sum(half["tokens"] for half in entry["halves"])
                    for entry in about["labels"]}


def test_ratio_is_the_papers_rule(collected, tmp_path):
    weights, tokens = sums(collected / "labels")
    got = build("--stats", collected / "labels", "--rule", "ratio", "--target", "german", *PAPER,
                "--name", "no-german", "--out", tmp_path)
    p = {label: [w / tokens[label] for w in weights[label]] for label in LABELS}
    expected = {e for e in range(CELLS)
                if p["german"][e] > 0 and p["german"][e] >= 2 * max(p["c"][e], p["kjv"][e])}
    assert removed(tmp_path, "no-german") == expected
    assert got["experts_removed"] == len(expected) and got["experts_total"] == CELLS
    assert [r["experts_removed"] for r in got["routers"]] == [
        len([e for e in expected if e // E**2 == router]) for router in range(2)]
    for row in got["labels"]:
        share = sum(weights[row["label"]][e] for e in expected) / sum(weights[row["label"]])
        assert abs(row["routing_weight_removed"] - share) < 1e-9
        assert row["tokens"] == tokens[row["label"]]
    # Fewer tokens than asked for, and the experts of the top.
    active, _ = sums(collected / "labels", "active", "I")
    build("--stats", collected / "labels", "--rule", "ratio", "--target", "german", "--fdr", 1,
          "--name", "often", "--out", tmp_path)
    assert removed(tmp_path, "often") == {e for e in expected if active["german"][e] >= 30}
    build("--stats", collected / "labels", "--rule", "top", "--top", 20, "--target", "german",
          "--fdr", 1, "--name", "top", "--out", tmp_path)
    assert len(removed(tmp_path, "top")) == 20
    second = [max(p["c"][e], p["kjv"][e]) for e in range(CELLS)]
    ranked = sorted((e for e in range(CELLS)
                     if active["german"][e] >= 30 and p["german"][e] > second[e]),
                    key=lambda e: (-(p["german"][e] / second[e] if second[e] else float("inf")),
                                   -p["german"][e], e))
    assert removed(tmp_path, "top") == set(ranked[:20])


def test_correlation(collected, tmp_path):
    build("--stats", collected / "scores", "--rule", "correlation", "--threshold", 0.1,
          "--name", "scored", "--out", tmp_path)
    n_g, tokens = sums(collected / "scores")
    squares, _ = sums(collected / "scores", "squares")
    products, _ = sums(collected / "scores", "products", "q")
    active, _ = sums(collected / "scores", "active", "I")
    _, about = read((collected / "scores").read_bytes())
    halves = about["labels"][0]["halves"]
    n = tokens["scored"]
    t = sum(half["scores"] for half in halves) / 2**20
    tt = sum(half["score_squares"] for half in halves) / 2**32

    def r(e):
        g, gg, gt = (n_g["scored"][e] / 2**32, squares["scored"][e] / 2**40,
                     products["scored"][e] / 2**32)
        return (n * gt - g * t) / ((n * gg - g * g) * (n * tt - t * t)) ** 0.5

    expected = {e for e in range(CELLS) if active["scored"][e] >= 30 and r(e) > 0.1}
    assert removed(tmp_path, "scored") == expected and len(expected) > 100


def test_union_and_difference(collected, tmp_path):
    for label in LABELS:
        build("--stats", collected / "labels", "--rule", "ratio", "--target", label, *PAPER,
              "--name", f"no-{label}", "--out", tmp_path)
    c, german, kjv = (removed(tmp_path, f"no-{label}") for label in LABELS)
    files = {label: tmp_path / f"no-{label}/1.yaml" for label in LABELS}
    build("--union", files["c"], "--union", files["kjv"], "--name", "both", "--out", tmp_path)
    assert removed(tmp_path, "both") == c | kjv
    german_expert = min(german)
    (tmp_path / "keep.json").write_text(json.dumps(
        {"routers": [{"router": 1, "rows": [3]},
                     {"router": german_expert // E**2, "ids": [german_expert % E**2]}]
         if german_expert < E**2 else [{"router": 1, "rows": [3], "ids": [german_expert % E**2]}]}))
    build("--stats", collected / "labels", "--rule", "ratio", "--target", "german", *PAPER,
          "--union", files["c"], "--minus", tmp_path / "both/1.yaml", "--keep",
          tmp_path / "keep.json", "--name", "mixed", "--out", tmp_path)
    row = set(range(E**2 + 3 * E, E**2 + 4 * E))
    assert removed(tmp_path, "mixed") == (german | c) - (c | kjv) - row - {german_expert}
    built = yaml.safe_load((tmp_path / "mixed/1.yaml").read_text())["built"]
    assert built["rule"] == "ratio" and built["target"] == "german" and built["fdr"] == 1
    assert [entry.split()[0] for entry in built["union"] + built["minus"]] == ["no-c@1", "both@1"]
    assert built["kept_experts"] == 257
    hashes = sorted((LABELS.index(label), hashlib.sha256(text.encode()).digest())
                    for label, text in documents())
    assert built["documents"] == "sha256:" + hashlib.sha256(
        b"".join(LABELS[n].encode() + b"\0" + digest for n, digest in hashes)).hexdigest()


def test_the_same_bytes_again_and_never_others(collected, tmp_path):
    arguments = ["--stats", collected / "labels", "--rule", "ratio", "--target", "c", *PAPER,
                 "--name", "no-c"]
    first = build(*arguments, "--out", tmp_path / "a")
    assert build(*arguments, "--out", tmp_path / "b") == first
    for file in ("1.yaml", "1.mask"):
        a, b = (tmp_path / folder / "no-c" / file for folder in "ab")
        assert a.read_bytes() == b.read_bytes()
    assert build(*arguments, "--out", tmp_path / "a") == first
    assert "give it another number" in build(*arguments, "--ratio", 3, "--out", tmp_path / "a",
                                             code=2)
    second = build(*arguments, "--ratio", 3, "--out", tmp_path / "a", "--version", 2)
    assert second["experts_removed"] < first["experts_removed"]
    # A server of the model takes them and does what they say.
    server = Server(tmp_path, policies=tmp_path / "a")
    verified = json.loads(run("verify", tmp_path / "a", "--on-server", "--server", server.address,
                              "--text-file", ROOT / "examples/samples/c.txt", "--json"))
    assert [p["version"] for p in verified["policies"]] == [1, 2]
    assert all(p["server"]["removed"] > 0 for p in verified["policies"])
    assert server.stop() == 0


def test_shuffled_labels_are_null(collected, tmp_path):
    arguments = ["--stats", collected / "shuffled", "--rule", "ratio", "--name", "x", "--out",
                 tmp_path]
    for label in LABELS:
        assert "null: no expert passes" in build(*arguments, "--target", label, code=1)
    assert not (tmp_path / "x").exists()
    assert build(*arguments, "--target", "c", *PAPER)["experts_removed"] > 100


def test_what_is_refused(collected, tmp_path):
    stats = ["--stats", collected / "labels"]
    scores = ["--stats", collected / "scores"]
    partial = tmp_path / "partial"
    partial.write_bytes((collected / "labels").read_bytes().replace(
        b'"complete":true', b'"complete":false').replace(b'"system":"m', b'"system":"'))
    (tmp_path / "keep.json").write_text('{"routers": [{"router": 2, "ids": [1]}]}')
    for arguments, complaint in (
            (stats, "--stats needs --rule"), ([], "--stats or --union is needed"),
            (["--rule", "ratio"], "--rule needs --stats"),
            ([*stats, "--rule", "x"], "must be ratio, top or correlation"),
            ([*stats, "--rule", "ratio"], "--target is needed"),
            ([*stats, "--rule", "ratio", "--target", "x"], "no such label"),
            ([*stats, "--rule", "ratio", "--target", "c", "--ratio", 0], "must be above 0"),
            ([*stats, "--rule", "ratio", "--target", "c", "--fdr", 0], "must be above 0"),
            ([*stats, "--rule", "ratio", "--target", "c", "--top", 3], "--top is not of --rule"),
            ([*stats, "--rule", "ratio", "--target", "c", "--min-tokens", -1], "not be negative"),
            ([*stats, "--rule", "top", "--target", "c"], "needs --top"),
            ([*stats, "--rule", "correlation", "--threshold", 0.1], "have no scores"),
            ([*scores, "--rule", "correlation"], "needs --threshold"),
            ([*scores, "--rule", "correlation", "--threshold", 0.1, "--fdr", 1], "--fdr is not of"),
            ([*scores, "--rule", "ratio", "--target", "scored"], "one label only"),
            ([*stats, "--rule", "ratio", "--target", "c", *PAPER, "--keep", tmp_path / "keep.json"],
             "keep.json: "),
            (["--stats", partial, "--rule", "ratio", "--target", "c"], "is not complete; go on"),
            (["--stats", tmp_path / "keep.json", "--rule", "ratio", "--target", "c"], "keep.json")):
        assert complaint in build(*arguments, "--name", "x", "--out", tmp_path / "out", code=2)
    for arguments in (["--name", "X"], ["--name", "x", "--version", 0]):
        build(*stats, "--rule", "ratio", "--target", "c", *PAPER, *arguments, "--out",
              tmp_path / "out", code=2)
    assert not (tmp_path / "out").exists()
