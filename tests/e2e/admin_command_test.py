"""monetctl admin against a server with an administration port."""

import json
import os
import pathlib
import subprocess

import pytest

from server_process import Server, eventually

TOKEN = "a-token-of-the-operator"


def monetctl(*arguments, code=0):
    """Runs `monetctl admin`; returns its JSON, or the one line of its error."""
    binary = pathlib.Path(os.environ["MONET_SERVER_BINARY"]).with_name("monetctl")
    result = subprocess.run([binary, "admin", *arguments], capture_output=True, text=True,
                            timeout=60)
    assert result.returncode == code, result.stderr
    if code == 0:
        assert result.stderr == ""
        return json.loads(result.stdout)
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


@pytest.fixture()
def server(tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    process = Server(tmp_path, "--admin-listen", "127.0.0.1:0", "--admin-token-file",
                     tmp_path / "token")
    process.admin = process.printed("admin").removeprefix("http://")
    yield process
    process.stop()


def test_every_command(server, tmp_path):
    access = ["--admin", server.admin, "--token-file", tmp_path / "token"]
    health = monetctl("health", *access)
    assert health["state"] == "serving"
    assert health["model"]["name"] == "demo" and health["policies"] == 12
    reloaded = monetctl("reload", *access)["reloaded"]
    assert {"name": "policies", "changed": False, "summary": "12 policies"} in reloaded
    assert monetctl("log-level", *access) == {"level": "info"}
    assert monetctl("log-level", "debug", *access) == {"level": "debug"}
    assert monetctl("log-level", *access) == {"level": "debug"}
    assert monetctl("drain", *access) == {"state": "draining"}
    assert eventually(server.ended)
    assert server.stop() == 0
    assert "UNAVAILABLE" in monetctl("health", *access, code=1)


def test_errors_are_told(server, tmp_path):
    access = ["--admin", server.admin, "--token-file", tmp_path / "token"]
    (tmp_path / "wrong").write_text("another-token-altogether")
    for command in ("health", "reload", "drain", "log-level"):
        assert "UNAUTHENTICATED" in monetctl(command, "--admin", server.admin, code=1)
        assert "UNAUTHENTICATED" in monetctl(command, "--admin", server.admin, "--token-file",
                                             tmp_path / "wrong", code=1)
    assert "INVALID_ARGUMENT" in monetctl("log-level", "loud", *access, code=1)
    assert "expected HOST:PORT" in monetctl("health", "--admin", "here", code=2)
    assert "--admin is required" in monetctl("health", code=2)
    assert monetctl("health", *access)["state"] == "serving"


def test_a_reload_that_fails_is_told_and_changes_nothing(tmp_path):
    tenants = tmp_path / "tenants.yaml"
    keys = tmp_path / "keys.yaml"
    tenants.write_text("tenants:\n- name: acme\n")
    keys.write_text("keys:\n- tenant: acme\n  sha256: " + "0" * 64 + "\n")
    server = Server(tmp_path, "--tenants", tenants, "--keys", keys, "--admin-listen",
                    "127.0.0.1:0")
    admin = server.printed("admin").removeprefix("http://")
    tenants.write_text("tenants:\n- name: acme\n  alow: all\n")
    assert "tenants[0].alow (line 3): unknown key" in monetctl("reload", "--admin", admin, code=1)
    assert monetctl("health", "--admin", admin)["state"] == "serving"
    assert server.stop() == 0
