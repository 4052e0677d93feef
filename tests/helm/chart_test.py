"""What the chart makes of every file in helm/monet/ci, on every version of Kubernetes."""

import base64
import hashlib
import os
import pathlib
import re
import subprocess
import sys

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml

import chart_render
from chart_render import (
    CHART, CI, KUBERNETES, ROOT, find, objects, overlay, pod_specs, server_config)
from crd_schemas import SCHEMAS


@pytest.fixture(scope="module", params=CI)
def profile(request):
    return request.param, objects(CI[request.param])


@pytest.mark.parametrize("name", CI)
def test_objects_are_what_each_kubernetes_accepts(name):
    # The text is the same for most versions, and so is the answer.
    for version in KUBERNETES:
        found = objects(CI[name], kubernetes=version)
        assert len(found) > 6
        for one in found:
            if one["kind"] in SCHEMAS:
                jsonschema.validate(one, SCHEMAS[one["kind"]])
            else:
                kubernetes_validate.validate(one, version, strict=True)


def test_ci_covers_every_template():
    made = {path for values in CI.values() for path, text in chart_render.render(values).items()
            if any(yaml.safe_load_all(text) if path != "NOTES.txt" else [text.strip()])}
    templates = {path.relative_to(CHART / "templates").as_posix()
                 for path in (CHART / "templates").rglob("*") if path.suffix in (".yaml", ".txt")}
    assert made == templates


@pytest.mark.parametrize("name", CI)
def test_lint(name):
    report = helm_python.lint(CHART, CI[name], strict=True)
    assert not report["errors"]
    assert all("icon is recommended" in message["error"] for message in report["messages"])


def test_no_object_is_made_twice(profile):
    _, found = profile
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names))


def test_pods_are_restricted(profile):
    """Kubernetes' pod security level "restricted", and what it leaves open."""
    for name, spec in pod_specs(profile[1]):
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True and pod["runAsUser"] > 0, name
        assert pod["seccompProfile"]["type"] == "RuntimeDefault", name
        assert spec["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert not any("hostPath" in volume for volume in spec.get("volumes") or []), name
        for container in spec["containers"] + spec.get("initContainers", []):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name


def test_every_mount_has_its_volume(profile):
    for name, spec in pod_specs(profile[1]):
        volumes = {volume["name"] for volume in spec.get("volumes") or []}
        containers = spec["containers"] + spec.get("initContainers", [])
        mounted = {mount["name"] for container in containers
                   for mount in container.get("volumeMounts") or []}
        assert mounted == volumes, name


def test_selectors_find_the_pods_of_one_model_only(profile):
    _, found = profile
    deployments = [one for one in found if one["kind"] == "Deployment"]
    pods = {one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
            for one in deployments}
    pods |= {one["metadata"]["name"]: one["metadata"]["labels"]
             for one in found if one["kind"] == "Pod"}
    for one in found:
        if one["kind"] in ("Service", "PodDisruptionBudget"):
            selector = one["spec"]["selector"]
            selector = selector.get("matchLabels", selector)
            matched = [name for name, labels in pods.items() if selector.items() <= labels.items()]
            assert matched == [one["metadata"]["name"].removesuffix("-headless")]
    for deployment in deployments:
        labels = pods[deployment["metadata"]["name"]]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
        # A new version of the chart alone is no rollout.
        assert "helm.sh/chart" not in labels and "app.kubernetes.io/version" not in labels


def test_probes_ask_the_health_port(profile):
    for one in profile[1]:
        if one["kind"] != "Deployment":
            continue
        server = one["spec"]["template"]["spec"]["containers"][0]
        assert server["startupProbe"]["grpc"] == {"port": 50052, "service": "liveness"}
        assert server["readinessProbe"]["grpc"] == {"port": 50052, "service": ""}
        assert server["livenessProbe"]["grpc"] == {"port": 50052, "service": "liveness"}
        assert {"name": "health", "containerPort": 50052} in server["ports"]


def test_administration_is_for_the_pod_alone(profile):
    """Off unless asked for; then on loopback, with a token, and no way in from outside."""
    name, found = profile
    for one in (one for one in found if one["kind"] == "Deployment"):
        config = server_config(found, one["metadata"]["labels"]["app.kubernetes.io/component"])
        pod = one["spec"]["template"]["spec"]
        server = pod["containers"][0]
        volumes = [volume for volume in pod["volumes"] if volume["name"] == "admin"]
        if name != "tenants":
            assert not {"admin_listen", "admin_token_file"} & set(config)
            assert not volumes
            continue
        assert config["admin_listen"] == "127.0.0.1:50053"
        mount = next(one for one in server["volumeMounts"] if one["name"] == "admin")
        assert mount["readOnly"]
        item = volumes[0]["secret"]["items"][0]
        assert config["admin_token_file"] == f"{mount['mountPath']}/{item['path']}"
        assert (volumes[0]["secret"]["secretName"], item["key"]) == ("monet-admin", "token.txt")
        assert all(port["containerPort"] != 50053 for port in server["ports"])
        assert len(server["volumeMounts"]) == len(pod["volumes"])
    for one in found:
        if one["kind"] in ("Service", "NetworkPolicy", "ServiceMonitor"):
            assert "50053" not in str(one["spec"]) and "admin" not in str(one["spec"])


def test_a_pod_has_the_time_to_drain(profile):
    name, found = profile
    for one in found:
        if one["kind"] != "Deployment":
            continue
        spec = one["spec"]["template"]["spec"]
        model = one["metadata"]["labels"]["app.kubernetes.io/component"]
        pre_stop = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = server_config(found, model).get("drain_timeout", 30)
        # The server flushes for two seconds after its drain.
        assert spec["terminationGracePeriodSeconds"] >= pre_stop + drain + 3


def test_drain_default_is_the_servers():
    help_text = subprocess.run([os.environ["MONET_SERVER_BINARY"], "--help"], check=True,
                               capture_output=True, text=True).stdout
    said = help_text[help_text.index("--drain-timeout"):]
    assert "30" in said[:said.index("--", 3)]


@pytest.mark.parametrize("scaling", ["hpa", "keda"])
def test_an_autoscaler_owns_the_number_of_pods(scaling):
    found = objects(CI[scaling])
    assert "replicas" not in find(found, "Deployment")["spec"]
    kind = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}[scaling]
    assert find(found, kind)["spec"]["scaleTargetRef"]["name"] == \
        find(found, "Deployment")["metadata"]["name"]
    assert find(objects(CI["minimal"]), "Deployment")["spec"]["replicas"] == 1


def test_only_settings_roll_pods():
    """The server reads policies and tenants again by itself; its own file only at start."""
    def template(change):
        values = chart_render.overlay(CI["tenants"], change)
        return find(objects(values), "Deployment")["spec"]["template"]

    policy = CI["tenants"]["policies"]["no-python"]["versions"]["1"]
    tenants = CI["tenants"]["models"]["demo"]["tenants"]
    unchanged = template({})
    for change in (
            {"policies": {"no-python": {"versions": {"2": policy}}}},
            {"policies": {"no-python": {"versions": {"1": {"yaml": "another"}}}}},
            {"models": {"demo": {"tenants": {"list": tenants["list"][:1]}}}}):
        assert template(change) == unchanged
    assert template({"models": {"demo": {"settings": {"max_queue": 7}}}}) != unchanged
    assert template({"policies": {"no-c": {"versions": {"1": policy}}}}) != unchanged


def test_policies_are_a_directory_of_their_own():
    """The projected volume is laid out as docs/policies.md says."""
    found = objects(CI["tenants"])
    volumes = find(found, "Deployment")["spec"]["template"]["spec"]["volumes"]
    sources = next(volume for volume in volumes if volume["name"] == "policies")
    paths = set()
    for source in sources["projected"]["sources"]:
        data = find(found, "ConfigMap", source["configMap"]["name"])
        present = set(data["data"]) | set(data["binaryData"])
        paths |= {item["path"] for item in source["configMap"]["items"] if item["key"] in present}
    assert paths == {f"{name}/1.{kind}" for name in ("no-insults", "no-python")
                     for kind in ("yaml", "mask")}


def test_masks_survive_the_way_through_values():
    made = subprocess.run(
        [sys.executable, ROOT / "tools/policy_values.py", ROOT / "policies/no-insults"],
        check=True, capture_output=True, text=True).stdout
    values = chart_render.overlay(CI["tenants"], yaml.safe_load(made))
    data = find(objects(values), "ConfigMap", "-policy-no-insults")
    folder = ROOT / "policies/no-insults"
    assert base64.b64decode(data["binaryData"]["1.mask"]) == (folder / "1.mask").read_bytes()
    assert data["data"]["1.yaml"] == (folder / "1.yaml").read_text()


def test_one_pod_that_fails_its_digest_check_does_not_start(tmp_path):
    """The script of the container that compares the checkpoint, run here."""
    found = objects(CI["init-container"])
    spec = find(found, "Deployment")["spec"]["template"]["spec"]
    verify = next(one for one in spec["initContainers"] if one["name"] == "verify")
    assert [one["name"] for one in spec["initContainers"]] == ["model", "verify"]
    folder, sums = tmp_path / "model", tmp_path / "sha256"
    folder.mkdir()
    sums.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.model"):
        (folder / name).write_text(name)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
               for path in folder.iterdir()}
    values = chart_render.overlay(CI["init-container"],
                                  {"models": {"demo": {"source": {"sha256": digests}}}})
    for name, text in find(objects(values), "ConfigMap", "-sha256")["data"].items():
        (sums / name).write_text(text)
    script = verify["command"][2].replace("/etc/monet/sha256", str(sums)) \
                                 .replace("/model\n", f"{folder}\n")

    def passes():
        return subprocess.run(["/bin/sh", "-euc", script], capture_output=True).returncode == 0

    assert passes()
    (folder / "extra.safetensors").write_text("more")
    assert not passes()
    (folder / "extra.safetensors").unlink()
    (folder / "config.json").write_text("other")
    assert not passes()
    (folder / "config.json").unlink()
    assert not passes()


@pytest.mark.parametrize("name", CI)
def test_the_server_accepts_its_file(name, tmp_path):
    """monet-server --check with each rendered configuration and the rendered tenants; model,
    policies, keys and certificates are those of the repository or left out."""
    found = objects(CI[name])
    for one in (one for one in found if one["kind"] == "Deployment"):
        model = one["metadata"]["labels"]["app.kubernetes.io/component"]
        config = server_config(found, model)
        assert config["listen"].startswith("0.0.0.0:")
        config["model"] = str(ROOT / "models/demo")
        config["kv_tokens"] = 512
        if "policies" in config:
            config["policies"] = str(ROOT / "policies")
        for key in ("tls_cert", "tls_key", "tls_client_ca", "tls_client_auth"):
            config.pop(key, None)
        if "keys" in config:
            keys = tmp_path / "keys.yaml"
            keys.write_text(f"keys: [{{tenant: acme, sha256: {'0' * 64}}}]\n")
            config["keys"] = str(keys)
        if "admin_token_file" in config:
            token = tmp_path / "token"
            token.write_text("a-token-of-the-operator\n")
            config["admin_token_file"] = str(token)
        if "tenants" in config:
            tenants = tmp_path / "tenants.yaml"
            tenants.write_text(
                find(found, "ConfigMap", f"{model}-tenants")["data"]["tenants.yaml"])
            config["tenants"] = str(tenants)
        path = tmp_path / f"{model}.yaml"
        path.write_text(yaml.safe_dump(config))
        done = subprocess.run([os.environ["MONET_SERVER_BINARY"], "--check", "--config", path],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_no_service_speaks_h2c_under_tls():
    for name, protocol in (("minimal", "kubernetes.io/h2c"), ("tenants", None)):
        for one in objects(CI[name]):
            if one["kind"] == "Service":
                assert one["spec"]["ports"][0].get("appProtocol") == protocol


def test_notes_have_commands_to_paste():
    notes = chart_render.render(CI["tenants"])["NOTES.txt"]
    assert "monetctl generate" in notes and "--key-file" in notes and "helm test r" in notes
    assert "Everybody" in chart_render.render(CI["minimal"])["NOTES.txt"]


def test_every_example_of_the_docs_renders():
    text = (ROOT / "docs/kubernetes.md").read_text()
    examples = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]
    assert len(examples) > 4
    policies = CI["tenants"]["policies"]
    base = overlay(examples[0], {"policies": {
        **policies, "no-insults-next": policies["no-insults"],
        "no-python-next": policies["no-python"]}})
    for example in examples:
        assert find(objects(overlay(base, example)), "Deployment", "-demo")
    # The sentence about a limit under the plan is the chart's own.
    said = re.search(r"^models.demo: resources.*?(?= raise)", text, re.M)[0]
    with pytest.raises(helm_python.HelmError) as refused:
        objects(overlay(base, {"models": {"demo": {"plan": {"memory": 1289748480}}}}))
    assert said in str(refused.value)


def test_readme_is_made_from_values():
    done = subprocess.run([sys.executable, ROOT / "tools/chart_readme.py", "--check"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_versions_agree():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == pathlib.Path(ROOT / "VERSION").read_text().strip()
    assert chart["kubeVersion"] == f">={KUBERNETES[0]}.0-0"
