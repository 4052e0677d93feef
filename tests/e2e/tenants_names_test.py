"""Names of policies in tenants.yaml that the server does not have: told, with their place."""

import os
import subprocess

from server_process import ROOT, eventually
from tenants_server import Server, keys_yaml, replace

TENANTS = """
tenants:
- name: acme
  allow: [no-python, no-pyton,
          no-c@7]
  shadow: [quite-another]
- name: beta
  allow: [all]
"""
GOOD = """tenants:
- name: acme
  allow: [no-python]
  shadow: [no-c@1]
- {name: beta, allow: all}
"""
BESIDE_ALL = "`allow: all`, without brackets, allows every policy"
WARNINGS = [
    "tenants.yaml:4: tenant acme, allow[1]: policy no-pyton is not known; is no-python meant?",
    "tenants.yaml:5: tenant acme, allow[2]: policy no-c@7 is not known; is no-c@1 meant?",
    "tenants.yaml:6: tenant acme, shadow[0]: policy quite-another is not known",
    f"tenants.yaml:8: tenant beta, allow[0]: policy all is not known; {BESIDE_ALL}",
]
SOURCES = ("--policies", ROOT / "policies", "--model", ROOT / "models/demo")


def check(tmp_path, text, *more):
    (tmp_path / "tenants.yaml").write_text(text)
    return subprocess.run(
        [os.environ["MONETCTL_BINARY"], "tenants", "check", tmp_path / "tenants.yaml", *more],
        capture_output=True, text=True, timeout=60)


def test_check_names_what_is_not_there_and_takes_the_file(tmp_path):
    result = check(tmp_path, TENANTS, *SOURCES)
    assert result.stderr.splitlines() == [f"monetctl: warning: {line}" for line in WARNINGS]
    assert result.returncode == 0
    assert result.stdout == "2 tenants, 0 keys, every mandatory policy is there, 4 warnings\nok\n"


def test_check_says_nothing_of_names_that_are_there(tmp_path):
    result = check(tmp_path, GOOD, *SOURCES)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "2 tenants, 0 keys, every mandatory policy is there\nok\n"


def test_check_without_policies_says_what_it_did_not_look_at(tmp_path):
    result = check(tmp_path, TENANTS)
    assert result.returncode == 0
    assert result.stderr == (f"monetctl: warning: tenants.yaml:8: tenant beta, allow[0]: "
                             f"{BESIDE_ALL}\n")
    assert result.stdout == ("2 tenants, 0 keys, policies not looked up (--policies, --model), "
                             "1 warning\nok\n")


def test_the_server_warns_at_start_and_after_every_change(tmp_path):
    server = Server(tmp_path, TENANTS, {"key-of-acme": "acme"})
    log = server.err.read_text()
    for line in WARNINGS:
        assert log.count(f"warning {line}\n") == 1, log
    replace(server.tenants, GOOD)
    assert eventually(lambda: "tenants reloaded" in server.err.read_text())
    replace(server.tenants, GOOD.replace("no-python", "no-pythn"))
    warning = "tenants.yaml:3: tenant acme, allow[0]: policy no-pythn is not known"
    assert eventually(lambda: warning in server.err.read_text())
    assert server.err.read_text().count(": policy ") == len(WARNINGS) + 1
    assert server.stop() == 0


def test_the_check_of_the_server_warns(tmp_path):
    (tmp_path / "tenants.yaml").write_text(TENANTS)
    (tmp_path / "keys.yaml").write_text(keys_yaml({"key-of-acme": "acme"}))
    result = subprocess.run(
        [os.environ["MONET_SERVER_BINARY"], "--check", *SOURCES, "--tenants",
         tmp_path / "tenants.yaml", "--keys", tmp_path / "keys.yaml"],
        capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    for line in WARNINGS:
        assert line in result.stderr
