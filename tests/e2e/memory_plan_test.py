"""`monetctl plan` against the plan that a server starts with, and against what it takes."""

import json
import os
import pathlib
import re
import subprocess

from server_process import ROOT, Server

MONETCTL = pathlib.Path(os.environ["MONET_SERVER_BINARY"]).with_name("monetctl")
SETTINGS = ["--threads", "2", "--kv-tokens", "4096"]


def plan(*arguments):
    return subprocess.run(
        [MONETCTL, "plan", "--model", ROOT / "models/demo", *arguments],
        capture_output=True, text=True, timeout=60)


def table(text):
    """{part: size as printed}, without what the machine has."""
    return dict(re.findall(r"^ *(weights|kv cache|activations|masks|requests|reserve|total) +"
                           r"(\d+\.\d [MG]iB)", text, re.M))


def test_plan_and_start_say_the_same(tmp_path):
    server = Server(tmp_path, *SETTINGS)
    try:
        started = table(server.out.read_text())
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    finally:
        assert server.stop() == 0
    planned = plan("--memory", "1Gi", *SETTINGS)
    assert planned.returncode == 0, planned.stderr
    assert len(started) == 7 and table(planned.stdout) == started
    figures = json.loads(plan("--memory", "1Gi", "--json", *SETTINGS).stdout)
    assert int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024 < figures["total"]


def test_defaults_are_the_servers(tmp_path):
    """The cache of 32 contexts fits in any machine that runs this, so it is the same."""
    server = Server(tmp_path, "--threads", "4")
    try:
        started = table(server.out.read_text())
    finally:
        assert server.stop() == 0
    assert table(plan("--memory", "64Gi").stdout) == started


def test_json_and_helm():
    figures = json.loads(plan("--memory", "1Gi", "--json").stdout)
    parts = ["weights", "kv_cache", "activations", "masks", "requests", "reserve"]
    assert sum(figures[part] for part in parts) == figures["total"] <= figures["peak"] <= 1 << 30
    assert figures["kv_tokens"] == figures["kv_blocks"] * figures["block_size"]
    assert figures["kv_bytes_per_token"] == 2 * figures["kv_bytes_per_token_bf16"]
    assert plan("--memory", "1Gi", "--helm").stdout == f"plan:\n  memory: {figures['peak']}\n"
    # Planned anew with what it asked for, it asks for the same.
    again = json.loads(plan("--memory", str(figures["peak"]), "--json").stdout)
    assert again["total"] == figures["total"]


def test_too_little_memory():
    least = json.loads(plan("--memory", "1Gi", "--json").stdout)["minimum"]
    assert plan("--memory", str(least)).returncode == 0
    refused = plan("--memory", str(least - 1))
    assert refused.returncode == 1
    assert f"{least} bytes are needed, {least - 1} are available" in refused.stderr


def test_config_alone(tmp_path):
    (tmp_path / "config.json").write_bytes((ROOT / "models/demo/config.json").read_bytes())
    result = subprocess.run([MONETCTL, "plan", "--model", tmp_path,
                             "--memory", "1Gi"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "weights are taken for bf16" in result.stdout


def test_bad_input(tmp_path):
    for memory in ["", "-1", "0", "1.5Gi", "8GiB", "99999999999Ti", "Gi", "1e9"]:
        result = plan("--memory", memory)
        assert result.returncode == 2 and "--memory is" in result.stderr, (memory, result)
    assert plan("--memory", "1Gi", "--threads", "0").returncode == 2
    assert plan("--memory", "1Gi", "--max-running", "65").returncode == 2
    assert plan("--memory", "1Gi", "--json", "--helm").returncode == 2
    missing = subprocess.run([MONETCTL, "plan", "--model", tmp_path,
                              "--memory", "1Gi"], capture_output=True, text=True, timeout=60)
    assert missing.returncode == 2 and str(tmp_path) in missing.stderr


def test_a_server_that_does_not_fit_ends_with_the_figures():
    result = subprocess.run(
        [os.environ["MONET_SERVER_BINARY"], "--model", ROOT / "models/demo", "--check",
         "--kv-tokens", "200000000"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert re.search(r"memory: \d+ bytes are needed, \d+ are available", result.stderr)
