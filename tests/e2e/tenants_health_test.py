"""What the administrator's port says of tenants.yaml: how it is now, without a reload asked for."""

import json
import urllib.error
import urllib.request

from server_process import eventually
from tenants_server import Server, replace

GOOD = """
tenants:
- name: acme
  require: [no-insults@1]
"""
BAD = GOOD + "  requires: [no-python]\n"
UNRESOLVED = """
tenants:
- name: acme
  require: [no-insults@7, no-python]
- name: beta
  require: [no-pyton, no-c@1]
"""
MISSING = {("acme", "no-insults@7"), ("beta", "no-pyton")}
KEYS = {"key-of-acme": "acme"}
# The watch of policies and certificates must not be what brings the news.
ADMIN = ("--admin-listen", "127.0.0.1:0", "--reload-interval", "0")


def health(server):
    """(status, report)"""
    try:
        with urllib.request.urlopen(server.printed("admin") + "/health", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def tenants(server):
    """The entry of the tenants among the reloads."""
    return next(entry for entry in health(server)[1]["reloads"] if entry["name"] == "tenants")


def unresolved(server):
    return {(entry["tenant"], entry["policy"])
            for entry in health(server)[1]["unresolved_mandatory_policies"]}


def test_health_shows_the_file_as_it_is_now(tmp_path):
    server = Server(tmp_path, GOOD, KEYS, ADMIN)
    assert tenants(server) == {"name": "tenants", "summary": "1 tenants, 1 keys"}
    replace(server.tenants, BAD)
    assert eventually(lambda: "error" in tenants(server), 8)
    assert "tenants.yaml" in tenants(server)["error"]
    assert "requires (line 5)" in tenants(server)["error"]
    assert tenants(server)["summary"] == "1 tenants, 1 keys"  # the last good ones serve on
    assert health(server)[0] == 200
    replace(server.tenants, GOOD + "- name: beta\n")
    assert eventually(lambda: "error" not in tenants(server), 8)
    assert tenants(server)["summary"] == "2 tenants, 1 keys"
    replace(server.tenants, BAD)
    assert eventually(lambda: "error" in tenants(server), 8)
    assert tenants(server)["summary"] == "2 tenants, 1 keys"
    assert server.stop() == 0


def test_health_names_every_unresolved_mandatory_policy(tmp_path):
    server = Server(tmp_path, UNRESOLVED, KEYS, ADMIN, wait=False)
    status, report = health(server)
    assert (status, report["state"]) == (503, "not_serving")
    assert unresolved(server) == MISSING
    assert all(entry["cause"] for entry in report["unresolved_mandatory_policies"])
    replace(server.tenants, GOOD)
    assert eventually(lambda: health(server)[0] == 200, 8)
    assert unresolved(server) == set()
    replace(server.tenants, UNRESOLVED)
    assert eventually(lambda: unresolved(server) == MISSING, 8)
    assert server.stop() == 0


def test_health_names_them_where_the_others_are_served(tmp_path):
    many = "".join(f"- name: t{n}\n  require: [no-such-{n}]\n" for n in range(12))
    server = Server(tmp_path, GOOD + many, KEYS,
                    (*ADMIN, "--on-unresolved-mandatory", "refuse_tenant"))
    assert health(server)[0] == 200
    assert unresolved(server) == {(f"t{n}", f"no-such-{n}") for n in range(12)}
    assert server.stop() == 0
