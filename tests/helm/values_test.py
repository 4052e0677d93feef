"""The schema of the chart's values, and what the chart refuses when it renders."""

import base64
import json
import os
import re
import subprocess

import helm_python
import hypothesis
import pytest
import yaml
from hypothesis import strategies

from chart_render import CHART, CI, ROOT, find, objects, overlay, server_config, validate_values

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
SETTINGS = SCHEMA["properties"]["modelDefaults"]["properties"]["settings"]["properties"]
# Where things are is the chart's to say.
OWNED = {"model", "policies", "listen", "metrics_listen", "health_listen", "tenants", "keys",
         "tls_cert", "tls_key", "tls_client_ca", "tls_client_auth", "allow_anonymous",
         "admin_listen", "admin_token_file"}


def demo(**values):
    return overlay(CI["minimal"], {"models": {"demo": values}})


def schemas(schema, path="values"):
    """Every schema in it, with its path."""
    yield path, schema
    for key, value in schema.get("properties", {}).items():
        yield from schemas(value, f"{path}.{key}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict) and "$ref" not in schema[key]:
            yield from schemas(schema[key], f"{path}.*")
    for one in schema.get("oneOf", []):
        yield from schemas(one, path)


def test_schema_is_strict_and_explained():
    for path, schema in schemas(SCHEMA):
        assert schema.get("description"), path
        if "object" in (schema.get("type") or ""):
            assert "additionalProperties" in schema, path
            # Open only where Kubernetes has a schema of its own, which the rendered object meets.
            if schema["additionalProperties"] is True:
                assert re.search("Kubernetes|one of them|Helm|object", schema["description"]), path
        if schema.get("type") == "integer" and path != "values.*.pdb.maxUnavailable":
            assert "minimum" in schema, path


def test_schema_knows_every_value():
    def walk(values, schema, path):
        for key, value in values.items():
            assert key in schema["properties"], f"{path}.{key}"
            inner = schema["properties"][key]
            if isinstance(value, dict) and inner.get("properties"):
                walk(value, inner, f"{path}.{key}")

    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    walk(defaults, SCHEMA, "values")
    # And the other way round: nothing is in the schema that values.yaml does not show.
    shown = defaults["modelDefaults"].keys()
    assert set(SCHEMA["properties"]["modelDefaults"]["properties"]) == set(shown)


def test_schema_knows_every_setting_of_the_server():
    text = (ROOT / "docs/compatibility.md").read_text()
    section = text[text.index("## Configuration keys"):text.index("## Metrics")]
    paragraph = section.strip().split("\n\n")[-1]
    documented = set(re.findall(r"`([a-z_]+)`", paragraph))
    assert "drain_timeout" in documented
    assert documented - OWNED == set(SETTINGS)


@pytest.mark.parametrize("key", SETTINGS)
def test_settings_have_the_servers_own_range(key):
    """What the schema allows the server accepts, and one more on either side it refuses."""
    schema = SETTINGS[key]
    # A step has a row for every running request, so each of these bounds the other.
    beside = {"max_running": ["--max-step-tokens", "4096"],
              "max_step_tokens": ["--max-running", "1"]}.get(key, [])

    def accepted(value):
        """The server reads all of its options before it looks for the model."""
        done = subprocess.run(
            [os.environ["MONET_SERVER_BINARY"], "--check", "--model", "/none", *beside,
             "--" + key.replace("_", "-"), str(value)], capture_output=True, text=True, timeout=30)
        return "/none" in done.stderr

    if "enum" in schema:
        assert all(accepted(word) for word in schema["enum"])
        assert not accepted("something")
    elif schema["type"] == "integer":
        assert accepted(schema["minimum"]) and accepted(schema["maximum"])
        assert not accepted(schema["minimum"] - 1) and not accepted(schema["maximum"] + 1)
    else:
        assert schema["type"] == "string"


REFUSED = {
    "no image": ({"models": {"demo": {"allowAnonymous": True}}}, "image.repository is empty"),
    "no model": ({"image": {"repository": "x"}}, "models is empty"),
    "misspelt value": (demo(replica=2), "replica"),
    "misspelt setting": (demo(settings={"max_que": 2}), "max_que"),
    "setting of the chart": (demo(settings={"listen": "0.0.0.0:1"}), "listen"),
    "setting out of range": (demo(settings={"max_queue": 0}), "max_queue"),
    "name that no object can have": (
        overlay(CI["minimal"], {"models": {"Demo_1": {}}}), "Demo_1"),
    "long name": (overlay(CI["minimal"], {"fullnameOverride": "a" * 50}), "limit 52"),
    "nobody may call": (demo(allowAnonymous=False), "has no tenants"),
    "tenants and everybody": (
        demo(tenants={"list": [{"name": "acme"}]}), "allowAnonymous means nothing"),
    "tenants that nobody can be": (
        demo(allowAnonymous=False, tenants={"list": [{"name": "acme"}]}),
        "nobody could be served"),
    "keys without tenants": (
        demo(tenants={"keysSecret": {"name": "keys"}}), "keysSecret needs tenants.list"),
    "policy that is not there": (demo(policies=["no-c"]), "names no-c"),
    "mandatory policy that pods do not have": (
        demo(allowAnonymous=False, tenants={"list": [{"name": "acme", "require": ["no-c@1"]}],
                                            "keysSecret": {"name": "keys"}}),
        "tenant acme requires the policy no-c"),
    "tenant called other": (demo(tenants={"list": [{"name": "other"}]}), "list/0/name"),
    "limits that are none": (
        demo(tenants={"list": [{"name": "acme", "limits": {"max_n": 0}}]}), "max_n"),
    "claim without name": (demo(source={"type": "pvc"}), "claimName is empty"),
    "init container without image": (demo(source={"type": "init"}), "init.image is empty"),
    "init container without digests": (
        demo(source={"type": "init", "init": {"image": "x"}}), "sha256 is empty"),
    "digest that is none": (
        demo(source={"type": "pvc", "sha256": {"config.json": "abc"}}), "sha256"),
    "fewest above most": (
        demo(autoscaling={"type": "hpa", "minReplicas": 5}), "minReplicas 5 is above"),
    "keda without Prometheus": (demo(autoscaling={"type": "keda"}), "serverAddress is empty"),
    "test without digest": (demo(test={"enabled": True}), "maskDigest is empty"),
    "administration without token": (demo(admin={"enabled": True}), "admin.tokenSecret.name is"),
    "client authority without certificate": (demo(tls={"clientCa": True}), "needs tls.secret"),
    "policy with two origins": (
        overlay(CI["tenants"], {"policies": {"no-python": {"configMap": "x"}}}),
        "has both configMap and versions"),
    "policy without any": (
        overlay(CI["minimal"], {"policies": {"no-c": {}}}), "neither configMap nor versions"),
    "version that is no number": (
        overlay(CI["minimal"], {"policies": {"no-c": {"versions": {"v1": {"yaml": "x"}}}}}), "v1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_reason(case):
    values, reason = REFUSED[case]
    with pytest.raises(helm_python.HelmError) as refused:
        objects(values)
    assert reason in str(refused.value)


@pytest.mark.parametrize("limit, accepted", [
    ("8Gi", True), (8589934592, True), ("8589934592", True), ("8.6G", True), ("8192Mi", True),
    ("8191Mi", False), ("8G", False), (8589934591, False), ("7.99Gi", False), ("1Ti", True),
    ("8388608Ki", True), ("8388607Ki", False), ("9000M", True), ("8000000k", False)])
def test_memory_limit_under_the_plan_is_refused(limit, accepted):
    values = demo(plan={"memory": 8 << 30}, resources={"limits": {"memory": limit}})
    if accepted:
        assert find(objects(values), "Deployment")
        return
    with pytest.raises(helm_python.HelmError) as refused:
        objects(values)
    # Both are named.
    assert "resources.limits.memory" in str(refused.value)
    assert "plan.memory, 8589934592 bytes" in str(refused.value)


def test_memory_limit_must_be_understood():
    with pytest.raises(helm_python.HelmError, match="expected a number"):
        objects(demo(plan={"memory": 1}, resources={"limits": {"memory": "8GB"}}))


@pytest.mark.parametrize("size, accepted", [(1 << 20, True), ((1 << 20) + 1, False)])
def test_policies_larger_than_a_configmap_are_refused(size, accepted):
    text = "format: 1\n"
    mask = base64.b64encode(bytes(size - len(text))).decode()
    values = overlay(CI["minimal"],
                     {"policies": {"no-c": {"versions": {"1": {"yaml": text, "mask": mask}}}}})
    if accepted:
        assert objects(values)
        return
    with pytest.raises(helm_python.HelmError, match="no-c has 1048577 bytes"):
        objects(values)


def test_values_of_a_model_win_also_when_they_are_empty():
    values = overlay(CI["observability"], {
        "modelDefaults": {"pdb": {"enabled": True}, "replicas": 3, "extraArgs": ["--x"],
                          "settings": {"drain_timeout": 60}},
        "models": {"demo": {"pdb": {"enabled": False}, "replicas": 0, "extraArgs": [],
                            "settings": {"drain_timeout": 0}, "drain": {"preStopSeconds": 0}}}})
    found = objects(values)
    assert not [one for one in found if one["kind"] == "PodDisruptionBudget"]
    spec = find(found, "Deployment")["spec"]
    assert spec["replicas"] == 0
    pod = spec["template"]["spec"]
    assert pod["containers"][0]["args"] == ["--config", "/etc/monet/server/monet.yaml"]
    assert "lifecycle" not in pod["containers"][0]
    assert pod["terminationGracePeriodSeconds"] == 10


def test_settings_keep_their_types():
    settings = {"kv_tokens": 2147483647, "max_queue": 100000, "usage_log": "-", "log_level": "info"}
    config = server_config(objects(demo(settings=settings)), "demo")
    assert {key: config[key] for key in settings} == settings


def strategy(schema):
    """Values that a schema of settings or limits allows."""
    if "enum" in schema:
        return strategies.sampled_from(schema["enum"])
    if schema["type"] == "integer":
        return strategies.integers(schema["minimum"], schema["maximum"])
    if schema["type"] == "boolean":
        return strategies.booleans()
    if "pattern" in schema:
        return strategies.from_regex(schema["pattern"], fullmatch=True).filter(
            lambda text: len(text) <= schema["maxLength"] and text.isascii())
    return strategies.text(strategies.characters(min_codepoint=33, max_codepoint=126),
                           min_size=1, max_size=20)


def mapping(schema):
    return strategies.fixed_dictionaries(
        {}, optional={key: strategy(value) for key, value in schema["properties"].items()})


MODEL = SCHEMA["properties"]["modelDefaults"]["properties"]
TENANT = MODEL["tenants"]["properties"]["list"]["items"]["properties"]
TENANTS = strategies.lists(
    strategies.fixed_dictionaries(
        {"name": strategy(TENANT["name"]).filter(lambda name: name != "other")},
        optional={"limits": mapping(TENANT["limits"]), "weight": strategy(TENANT["weight"]),
                  "explicit_masks": strategies.booleans(),
                  "cache_domain": strategy(TENANT["cache_domain"])}),
    min_size=1, max_size=4, unique_by=lambda tenant: tenant["name"])
MODELS = strategies.dictionaries(
    strategies.from_regex("[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True),
    strategies.fixed_dictionaries(
        {"tenants": strategies.fixed_dictionaries(
            {"list": TENANTS, "keysSecret": strategies.just({"name": "keys"})})},
        optional={"settings": mapping(MODEL["settings"]), "drain": mapping(MODEL["drain"]),
                  "replicas": strategy(MODEL["replicas"]), "gpu": mapping({"properties": {
                      "enabled": MODEL["gpu"]["properties"]["enabled"],
                      "count": MODEL["gpu"]["properties"]["count"]}})}),
    min_size=1, max_size=3)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None,
                     suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(MODELS)
def test_what_the_schema_allows_arrives_whole(models):
    found = objects({"image": {"repository": "x"}, "models": models})
    for name, model in models.items():
        config = server_config(found, name)
        settings = model.get("settings", {})
        assert {key: config[key] for key in settings} == settings
        assert config.keys() <= OWNED | set(SETTINGS)
        tenants = yaml.safe_load(
            find(found, "ConfigMap", f"monet-{name}-tenants")["data"]["tenants.yaml"])
        assert tenants == {"tenants": model["tenants"]["list"]}
        pod = find(found, "Deployment", f"monet-{name}")["spec"]["template"]["spec"]
        drain = {"preStopSeconds": 5, "marginSeconds": 10, **model.get("drain", {})}
        assert pod["terminationGracePeriodSeconds"] == \
            sum(drain.values()) + settings.get("drain_timeout", 30)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
@hypothesis.given(strategies.sampled_from(
    [path for path, schema in schemas(SCHEMA) if schema.get("properties")
     and "*" not in path and "oneOf" not in schema]),
    strategies.from_regex("[a-z]{5,12}", fullmatch=True))
def test_no_group_takes_a_name_it_does_not_know(path, name):
    keys = path.split(".")[1:]
    schema = SCHEMA
    for key in keys:
        schema = schema["properties"][key]
    hypothesis.assume(name not in schema["properties"])
    values = {name: 1}
    for key in reversed(keys):
        values = {key: values}
    with pytest.raises(helm_python.HelmError, match=name):
        validate_values(overlay(CI["minimal"], values))
