"""What comes first with a server that has just been started: the commands that it prints, and the
question whether it is ready."""

import hashlib
import os
import pathlib
import re
import subprocess

import pytest

from server_process import ROOT, Server, eventually

BINARIES = pathlib.Path(os.environ["MONET_SERVER_BINARY"]).resolve().parent


def commands(server):
    return re.search(r"^Try:\n((?:  .*\n)+)", server.out.read_text(), re.M).group(1).splitlines()


@pytest.mark.parametrize("cwd, monetctl", [
    (BINARIES.parent, f"{BINARIES.name}/monetctl"),
    # As containers start: a path without the leading slash would be right only there.
    ("/", f"{BINARIES}/monetctl"),
    (BINARIES / "..", f"{BINARIES.name}/monetctl"),
    ("/usr", f"{BINARIES}/monetctl"),
])
def test_the_printed_commands_can_be_pasted(tmp_path, cwd, monetctl):
    server = Server(tmp_path, cwd=cwd)
    lines = commands(server)
    assert len(lines) == 3
    for line in lines:
        assert line.startswith(f"  {monetctl} "), line
    done = subprocess.run(lines[-1], shell=True, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert server.stop() == 0


def test_the_printed_commands_name_the_credentials_that_they_need(tmp_path):
    tenants, keys, key = (tmp_path / name for name in ("tenants.yaml", "keys.yaml", "acme.key"))
    authority, private = tmp_path / "CA.pem", tmp_path / "server.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", private, "-out", authority,
                    "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    key.write_text("a" * 43)
    key.chmod(0o600)
    tenants.write_text("tenants: [{name: acme, allow: all}]\n")
    digest = hashlib.sha256(key.read_bytes()).hexdigest()
    keys.write_text(f"keys: [{{tenant: acme, sha256: {digest}}}]\n")
    server = Server(tmp_path, "--tenants", tenants, "--keys", keys, "--tls-cert", authority,
                    "--tls-key", private)
    for line in commands(server):
        without = line.replace(" --key-file TENANT.key", "")
        refused = subprocess.run(without, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert "UNAUTHENTICATED" in refused.stderr
        done = subprocess.run(line.replace("TENANT.key", str(key)), shell=True, cwd=tmp_path,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert server.stop() == 0


def test_health_follows_the_server(tmp_path):
    def health(server, *arguments):
        done = subprocess.run([BINARIES / "monetctl", "health", "--server", server.address,
                               *arguments], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout.strip()

    policies = tmp_path / "policies"
    policies.mkdir()
    (tmp_path / "tenants.yaml").write_text("tenants: [{name: acme, require: [no-python]}]\n")
    (tmp_path / "keys.yaml").write_text(f"keys: [{{tenant: acme, sha256: {'0' * 64}}}]\n")
    server = Server(tmp_path, "--tenants", tmp_path / "tenants.yaml", "--keys",
                    tmp_path / "keys.yaml", "--reload-interval", "1", policies=policies,
                    started="^Try:$")
    # It runs, but a mandatory policy is not there yet. No key is needed to ask.
    assert health(server) == (1, "NOT_SERVING")
    assert health(server, "--service", "monet.v1.GenerationService") == (1, "NOT_SERVING")
    assert health(server, "--service", "liveness") == (0, "SERVING")
    (policies / "no-python").symlink_to(ROOT / "policies/no-python")
    assert eventually(lambda: health(server) == (0, "SERVING"), 30)
    assert server.stop() == 0
    assert health(server) == (1, "")
