"""Runs the examples as their pages say, against a real server, and looks at what they print."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from server_process import ROOT, Server

TEXT = "And the LORD said unto them, The LORD thy God hath"
EXPECTED = [
    r"generate: (And the LORD said unto .+)",
    r"stream: (And the LORD said unto .+)",
    r"finish: FINISH_REASON_LENGTH, 16 tokens",
    r"policy no-kjv@1: (And the LORD.+)",
    r"cancel: (CANCELLED|Canceled).*",
    r"deadline: (DEADLINE_EXCEEDED|DeadlineExceeded)",
    r"error: (NOT_FOUND|NotFound) mask.policies\[0\]: policy no-such is not known",
    r"reason: POLICY_UNKNOWN",
    r"field: mask.policies\[0\]",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = Server(tmp_path_factory.mktemp("server"))
    yield process
    assert process.stop() == 0


def blocks_of_page(page):
    """The shell commands of a page, a list of blocks."""
    return re.findall(r"```sh\n(.*?)```", page.read_text(), re.S)


def run_page(language, folder, server, **environment):
    """The second block of the language's page, in a copy of the example; its output's lines."""
    shutil.copytree(ROOT / "examples" / language, folder / "examples" / language)
    (folder / "proto").symlink_to(ROOT / "proto")
    install, commands = blocks_of_page(ROOT / "examples" / language / "README.md")
    assert "install" in install and "127.0.0.1:50051" in commands
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands.replace("127.0.0.1:50051", server.address)],
        cwd=folder / "examples" / language, env={**os.environ, **environment}, timeout=240,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def expect_lines(lines, patterns):
    found = [re.fullmatch(pattern, line) for pattern, line in zip(patterns, lines)]
    assert all(found) and len(lines) == len(patterns), "\n".join(lines)
    return found


def test_python(server, tmp_path):
    lines = run_page("python", tmp_path, server,
                     PATH=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    asynchronous = EXPECTED[:4] + [r"policy no-python@1: (.+)"] + EXPECTED[4:]
    first = expect_lines(lines[:len(EXPECTED)], EXPECTED)
    second = expect_lines(lines[len(EXPECTED):], asynchronous)
    for found in first, second:
        assert found[0].group(1) == found[1].group(1) != found[3].group(1)
    assert second[4].group(1) == first[0].group(1)  # nothing to remove from this text


def test_go(server, tmp_path):
    if not shutil.which("go") or not os.path.isdir("/usr/share/gocode/src/google.golang.org/grpc"):
        pytest.skip("Debian's Go packages are not there: ./dev deps installs them")
    found = expect_lines(run_page("go", tmp_path, server), EXPECTED)
    assert found[0].group(1) == found[1].group(1) != found[3].group(1)
