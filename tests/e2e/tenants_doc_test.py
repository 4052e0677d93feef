"""docs/tenants.md as a reader would go through it: every command, in the order of the page."""

import json
import os
import re
import subprocess

import pytest

from server_process import ROOT, eventually

PAGE = ROOT / "docs/tenants.md"
BLOCK = re.compile(r"```sh( server| fails)?\n(.*?)```", re.S)


@pytest.fixture()
def shell(tmp_path):
    """Runs a command in one folder, as in one terminal."""
    binaries = os.path.dirname(os.environ["MONET_SERVER_BINARY"])
    environment = {**os.environ, "MONET": str(ROOT),
                   "PATH": f"{binaries}:{os.environ['PATH']}"}

    def run(command, **more):
        return subprocess.run(["bash", "-euc", command], cwd=tmp_path, capture_output=True,
                              text=True, timeout=60, env={**environment, **more})

    run.environment = environment
    run.folder = tmp_path
    return run


def start(shell, command):
    """The block that starts the server, on a free port. Returns the process and its address."""
    out = shell.folder / "server.out"
    with open(out, "wb") as file:
        process = subprocess.Popen(
            ["bash", "-euc", f"exec {command.strip()} --listen 127.0.0.1:0"], cwd=shell.folder,
            env=shell.environment, stdout=file, stderr=subprocess.DEVNULL)
    assert eventually(lambda: "\nready\n" in out.read_text() or process.poll() is not None, 30)
    assert process.poll() is None
    return process, re.search(r"^  grpc +(\S+)$", out.read_text(), re.M).group(1)


def test_the_page_does_what_it_says(shell):
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) >= 10
    process, server, outputs, errors = None, {}, [], []
    try:
        for kind, text in blocks:
            if kind == " server":
                process, address = start(shell, text)
                server = {"MONET_SERVER": address}
            elif kind == " fails":
                for command in text.strip().splitlines():
                    result = shell(command, **server)
                    assert result.returncode == 1, command
                    errors.append(result.stderr)
            else:
                result = shell(text, **server)
                assert result.returncode == 0, text + result.stderr
                outputs.append(result.stdout)
    finally:
        if process is not None:
            process.terminate()
            assert process.wait(timeout=30) == 0
    everything = "\n".join(outputs)
    assert "2 tenants, 2 keys, every mandatory policy is there\nok\n" in everything
    assert re.search(r"no-insults@1 +tenants.yaml:3\n", everything)
    assert re.search(r"max_tokens: 256 +tenants.yaml:5\n", everything)
    assert re.search(r"key laptop +keys.yaml:2\n", everything)
    assert [error.split(": ")[1] for error in errors] == [
        "NOT_FOUND (POLICY_UNKNOWN)", "UNAUTHENTICATED", "UNAUTHENTICATED"]
    applied = [json.loads(line)["policies"] for line in everything.splitlines()
               if line.startswith("{") and '"mandatory":' in line]
    assert [[policy["name"] for policy in policies if policy["mandatory"]]
            for policies in applied] == [["no-insults"], ["no-python"]]
    usage = [json.loads(line) for line in outputs[-1].splitlines()]
    assert [line["tenant"] for line in usage if line["code"] == "OK"].count("acme") >= 3
    for key in shell.folder.glob("*.key"):  # the secret is in no file but its own
        for other in shell.folder.iterdir():
            if other != key and other.is_file():
                assert key.read_text().strip() not in other.read_text(), other


def test_no_key_no_file_no_policy_is_told_with_its_place(shell):
    def error(command):
        result = shell(command)
        assert result.returncode == 2, command
        assert len(result.stderr.splitlines()) == 1
        return result.stderr

    (shell.folder / "bad.yaml").write_text("tenants:\n- name: acme\n  allows: [x]\n")
    assert "bad.yaml: tenants[0].allows (line 3): unknown key" in error(
        "monetctl tenants check bad.yaml")
    (shell.folder / "t.yaml").write_text("tenants:\n- name: acme\n  require: [no-such]\n")
    assert "there is no tenant beta" in error("monetctl tenants explain --tenant beta t.yaml")
    assert "tenant acme requires no-such: policy no-such is not known" in error(
        'monetctl tenants check t.yaml --policies "$MONET/policies" --model "$MONET/models/demo"')
    assert "together" in error('monetctl tenants check t.yaml --policies "$MONET/policies"')
    assert "--tenant is 'Acme'" in error("monetctl key new --tenant Acme")
    assert "--not-after is 'soon'" in error("monetctl key new --tenant acme --not-after soon")
    assert "--id must be" in error("monetctl key new --tenant acme --id 'a b'")
    assert "another writer" in error(
        "touch k.yaml.new; monetctl key new --tenant acme --append k.yaml")
    assert "no such file" in error("monetctl tenants check gone.yaml")
    (shell.folder / "s.yaml").write_text("tenants:\n- name: acme\n  shadow: [no-c]\n")
    explained = shell("monetctl tenants explain --tenant acme s.yaml").stdout
    assert re.search(r"\nmeasured, not applied\n  no-c +s.yaml:3\n", explained)
    assert re.search(r"\n  weight: 1 +default\n", explained)
    assert re.search(r"\n  cache_domain: acme \(no prefix cache yet\) +default\n", explained)
    note = shell("printf 'keys: []\\n' > none.yaml; monetctl tenants check t.yaml --keys none.yaml")
    assert note.stdout == ("note: tenant acme (line 2) has no key and no subject\n"
                           "1 tenants, 0 keys, policies not looked up (--policies, --model)\nok\n")
    shown = shell("monetctl key new --tenant acme --not-after 2027-01-31")
    assert re.fullmatch(
        r"monet_[\w-]{43}\n\n# for the list in keys.yaml\n- tenant: \"acme\"\n  sha256: "
        r"[0-9a-f]{64}\n  not_after: 2027-01-31T00:00:00Z\n", shown.stdout)
