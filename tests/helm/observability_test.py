"""Alerts and dashboard: promtool, and every query against a real Prometheus that scrapes two real
servers under load, of which one has everything wrong that an alert is about."""

import hashlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import grpc
import pytest
import yaml

import server_process
from chart_render import CHART, CI, ROOT, find, objects

ALERTS = CHART / "files/alerts.yaml"
DASHBOARD = json.loads((CHART / "files/dashboard.json").read_text())
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    not (PROMETHEUS and PROMTOOL), reason="prometheus and promtool are not installed")

TENANTS = """
tenants:
- {name: acme, require: [no-insults@1], shadow: [no-c], allow: all, explicit_masks: true}
- {name: slow, limits: {requests_per_minute: 1}}
- {name: stuck, require: [no-such-policy]}
"""


@needs_prometheus
def test_promtool_checks_and_tests_the_rules(tmp_path):
    shutil.copy(ALERTS, tmp_path)
    shutil.copy(ROOT / "tests/helm/alerts_test.yaml", tmp_path)
    for command in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run([PROMTOOL, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case():
    cases = yaml.safe_load((ROOT / "tests/helm/alerts_test.yaml").read_text())["tests"]
    tested = {test["alertname"] for case in cases for test in case["alert_rule_test"]
              if test.get("exp_alerts")}
    assert tested == {rule["alert"] for rule in RULES}


def test_queries_name_only_documented_metrics():
    text = (ROOT / "docs/compatibility.md").read_text()
    documented = set(re.findall(r"`(monet_\w+)`", text))
    used = set()
    for query in [rule["expr"] for rule in RULES] + [expr for _, expr in TARGETS]:
        used |= {re.sub(r"_(bucket|sum|count)$", "", name) if name not in documented else name
                 for name in re.findall(r"\bmonet_\w+", query)}
    assert used <= documented
    # Nothing that the server tells is left out of the dashboard.
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) if name not in documented else name
             for _, expr in TARGETS for name in re.findall(r"\bmonet_\w+", expr)}
    assert documented - shown == set()


def test_the_chart_carries_both_as_they_are():
    found = objects(CI["observability"])
    assert find(found, "PrometheusRule")["spec"] == yaml.safe_load(ALERTS.read_text())
    assert json.loads(find(found, "ConfigMap", "-dashboard")["data"]["monet.json"]) == DASHBOARD


def test_dashboard_is_laid_out():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def make_certificate(folder, days):
    """A certificate that expires soon."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", str(days), "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", folder / "tls.key",
         "-out", folder / "tls.crt"], check=True, capture_output=True)


class Load:
    """Calls of three tenants, more than the server can queue, until it is ended."""

    def __init__(self, api, server, certificate, keys):
        self.api, self.over = api, threading.Event()
        self.channel = grpc.secure_channel(
            server.address, grpc.ssl_channel_credentials(certificate))
        self.stub = api.generation_grpc.GenerationServiceStub(self.channel)
        self.threads = [threading.Thread(target=self._run, args=(keys[tenant],))
                        for tenant in ("acme",) * 6 + ("slow", "stuck")]
        for thread in self.threads:
            thread.start()

    def _run(self, key):
        messages = self.api.generation
        request = messages.GenerateStreamRequest(request=messages.GenerateRequest(
            prompt=messages.Prompt(text="Shut up, you"),
            stopping=messages.StopConditions(max_tokens=24)))
        metadata = (("authorization", f"Bearer {key}"),)
        while not self.over.is_set():
            try:
                list(self.stub.GenerateStream(request, metadata=metadata, timeout=20))
            except grpc.RpcError:
                time.sleep(0.05)

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        self.channel.close()


class Prometheus:
    def __init__(self, folder, targets):
        self.address = f"127.0.0.1:{free_port()}"
        shutil.copy(ALERTS, folder)
        (folder / "prometheus.yml").write_text(yaml.safe_dump({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms",
                       "evaluation_interval": "1s"},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [{"job_name": "monet", "static_configs": [{"targets": targets}]}]}))
        self.log = open(folder / "prometheus.log", "wb")
        self.process = subprocess.Popen(
            [PROMETHEUS, f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data", f"--web.listen-address={self.address}"],
            stdout=self.log, stderr=self.log)

    def get(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{query}",
                                    timeout=10) as page:
            return json.load(page)["data"]

    def query(self, expression):
        """Samples whose value is a number: a quantile of nothing is NaN."""
        return [sample for sample in self.get("query", query=expression)["result"]
                if sample["value"][1] != "NaN"]

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)
        self.log.close()


@pytest.fixture(scope="module")
def prometheus(api, tmp_path_factory):
    folder = tmp_path_factory.mktemp("observed")
    for name in ("broken", "other", "prometheus"):
        (folder / name).mkdir()
    # One replica has a policy that the other has not.
    shutil.copytree(ROOT / "policies", folder / "policies")
    shutil.copytree(ROOT / "policies", folder / "fewer",
                    ignore=shutil.ignore_patterns("no-kjv"))
    keys = {tenant: f"key-{tenant}" for tenant in ("acme", "slow", "stuck")}
    (folder / "tenants.yaml").write_text(TENANTS)
    (folder / "keys.yaml").write_text("keys:\n" + "".join(
        f"- {{tenant: {tenant}, sha256: {hashlib.sha256(key.encode()).hexdigest()}}}\n"
        for tenant, key in keys.items()))
    make_certificate(folder, days=5)
    broken = server_process.Server(
        folder / "broken", "--tenants", folder / "tenants.yaml",
        "--keys", folder / "keys.yaml", "--on-unresolved-mandatory", "refuse_tenant",
        "--tls-cert", folder / "tls.crt", "--tls-key", folder / "tls.key", "--reload-interval", "1",
        "--max-running", "1", "--max-queue", "2", "--kv-tokens", "512", "--model-name", "demo",
        policies=folder / "policies")
    other = server_process.Server(
        folder / "other", "--kv-tokens", "512", "--model-name", "demo", policies=folder / "fewer")
    targets = [urllib.parse.urlsplit(server.printed("metrics")).netloc
               for server in (broken, other)]
    running = Prometheus(folder / "prometheus", targets)
    load = Load(api, broken, (folder / "tls.crt").read_bytes(), keys)
    # A file that is good is taken over, then none of the files is any more.
    (folder / "tenants.yaml").write_text(TENANTS + "- {name: more}\n")
    assert server_process.eventually(
        lambda: broken.metrics()['monet_tenants_reloads_total{model_name="demo"}'] >= 1)
    (folder / "policies/no-c/1.yaml").write_text("format: 1\n")
    (folder / "tenants.yaml").write_text("tenants: {}\n")
    (folder / "tls.crt").write_text("no certificate\n")
    yield running
    load.end()
    running.stop()
    for server in (broken, other):
        assert server.stop() == 0


@needs_prometheus
@pytest.mark.parametrize("title, expression", TARGETS, ids=[title for title, _ in TARGETS])
def test_every_query_of_the_dashboard_has_results(prometheus, title, expression):
    expression = expression.replace("$__rate_interval", "10s").replace("$model", ".*")
    assert "$" not in expression
    assert server_process.eventually(lambda: prometheus.query(expression), 20), title


@needs_prometheus
@pytest.mark.parametrize("alert, expression", [(rule["alert"], rule["expr"]) for rule in RULES],
                         ids=[rule["alert"] for rule in RULES])
def test_every_alert_sees_what_it_is_about(prometheus, alert, expression):
    if alert == "EngineStalled":  # a server that answers scrapes is hard to stop: its left side
        expression = expression.replace("> 30", ">= 0")
    assert server_process.eventually(lambda: prometheus.query(expression), 20), alert
    # And Prometheus itself has read the rule.
    rules = [rule["name"] for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert alert in rules


@needs_prometheus
def test_drift_names_the_policy_that_one_replica_lacks(prometheus):
    expression = next(rule["expr"] for rule in RULES if rule["alert"] == "PolicyDrift")
    assert {sample["metric"]["policy"] for sample in prometheus.query(expression)} == {"no-kjv"}


@needs_prometheus
def test_the_variable_of_the_dashboard_finds_the_model(prometheus):
    query = DASHBOARD["templating"]["list"][1]["definition"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query).groups()
    values = prometheus.get(f"label/{label}/values", **{"match[]": metric})
    assert values == ["demo"]


def test_the_runbook_has_an_entry_for_every_alert():
    text = (ROOT / "docs/runbook.md").read_text()
    entries = re.findall(r"^## (\w+)$", text, re.M)
    assert entries == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        entry = text.split(f"\n## {rule['alert']}\n")[1].split("\n## ")[0]
        for part in ("**Means**", "**Look**", "**Do**"):
            assert part in entry, rule["alert"]
