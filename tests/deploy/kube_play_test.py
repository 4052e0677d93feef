"""The rendered chart as a pod, played by podman without a cluster: two tenants, each under its own
mandatory policy. Volumes that podman does not know (projected ones, Secrets) become folders with
the files that a kubelet would put there, and ports are left out; everything else is played as the
chart renders it. Probes, services and network policies are Kubernetes' own and not executed."""

import base64
import hashlib
import json
import time

import pytest
import yaml

from chart_render import CI, find, objects, overlay
from container_image import VERSION

KEYS = {"acme": "key-of-acme-0123456789", "beta": "key-of-beta-0123456789"}


def values():
    own = overlay(CI["tenants"], {"image": {"repository": "localhost/monet-server"}})
    model = own["models"]["demo"]
    for part in ("tls", "test"):
        del model[part]
    del model["tenants"]["gateway"]  # needs TLS
    return own


def keys_secret(name):
    lines = [f"- tenant: {tenant}\n  sha256: {hashlib.sha256(key.encode()).hexdigest()}\n"
             for tenant, key in KEYS.items()]
    text = "keys:\n" + "".join(lines)
    return {"kind": "Secret", "metadata": {"name": name},
            "data": {"keys.yaml": base64.b64encode(text.encode()).decode()}}


def files_of(found, kind, source):
    """{path: bytes} of one source of a volume."""
    name = source.get("name") or source["secretName"]
    matches = [one for one in found if one["kind"] == kind and one["metadata"]["name"] == name]
    if not matches:
        assert source.get("optional"), name
        return {}
    one = matches[0]
    data = {key: base64.b64decode(value)
            for key, value in {**one.get("binaryData", {}),
                               **(one.get("data", {}) if kind == "Secret" else {})}.items()}
    if kind == "ConfigMap":
        data |= {key: value.encode() for key, value in one.get("data", {}).items()}
    if "items" not in source:
        return data
    return {item["path"]: data[item["key"]] for item in source["items"] if item["key"] in data}


def as_folders(found, volumes, folder):
    """The volumes with host paths in place of what Kubernetes would fill."""
    result = []
    for volume in volumes:
        sources = volume.get("projected", {}).get("sources", [volume])
        files = {}
        for source in sources:
            if "configMap" in source:
                files |= files_of(found, "ConfigMap", source["configMap"])
            else:
                files |= files_of(found, "Secret", source["secret"])
        place = folder / volume["name"]
        for path, data in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(data)
        result.append({"name": volume["name"],
                       "hostPath": {"path": str(place), "type": "Directory"}})
    return result


@pytest.fixture(scope="module")
def pod(containers, tmp_path_factory):
    """monetctl in the chart's pod, once it serves."""
    folder = tmp_path_factory.mktemp("pod")
    found = objects(values())
    deployment = find(found, "Deployment", "monet-demo")
    secret = next(volume["secret"]["secretName"]
                  for volume in deployment["spec"]["template"]["spec"]["volumes"]
                  if "secret" in volume)
    assert secret == "monet-keys"
    spec = deployment["spec"]["template"]["spec"]
    for container in spec["containers"]:
        del container["ports"]  # podman would publish them on the host
    spec["volumes"] = as_folders([*found, keys_secret(secret)], spec["volumes"], folder)
    for path in [folder, *folder.rglob("*"), *folder.parents]:
        if path.stat().st_uid == 0 and str(path).startswith("/tmp/"):
            path.chmod(path.stat().st_mode | 0o055)
    (folder / "pod.yaml").write_text(yaml.safe_dump(deployment))
    played = containers.output("podman", "kube", "play", "--network", "none", folder / "pod.yaml")
    container = played.split()[-1]

    def monetctl(*arguments):
        return containers.run("podman", "exec", container, "/usr/bin/monetctl", *arguments)

    monetctl.container = container
    monetctl.spec = spec
    for _ in range(150):
        if monetctl("model", "--key", KEYS["acme"]).returncode == 0:
            break
        time.sleep(0.2)
    else:
        pytest.fail(containers.logs(container))
    yield monetctl
    containers.output("podman", "kube", "down", folder / "pod.yaml")


def test_each_tenant_has_its_own_mandatory_policy(pod):
    applied = {}
    for tenant, key in KEYS.items():
        result = pod("generate", "--key", key, "--json", "--max-tokens", "4", "--temperature", "0",
                     "def get_queryset(self):")
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        applied[tenant] = ({policy["name"] for policy in answer["policies"]},
                           answer["mask_digest"])
    assert applied["acme"][0] == {"no-insults"}
    assert applied["beta"][0] == {"no-python"}
    assert applied["acme"][1] != applied["beta"][1]


def test_what_a_tenant_may_not_do_is_refused(pod):
    nobody = pod("generate", "--key", "key-of-nobody-0123456789", "x")
    assert "UNAUTHENTICATED" in nobody.stderr and nobody.returncode == 1
    long = pod("generate", "--key", KEYS["acme"], "--max-tokens", "300", "x")
    assert "LIMIT_EXCEEDED" in long.stderr


def test_it_runs_as_the_chart_says(pod, containers):
    inspected = json.loads(containers.output("podman", "inspect", pod.container))[0]
    assert inspected["Config"]["User"] in ("65532", "65532:65532")
    assert inspected["HostConfig"]["ReadonlyRootfs"]
    assert inspected["EffectiveCaps"] in (None, [])
    assert pod.spec["containers"][0]["image"] == f"localhost/monet-server:{VERSION}"
    assert inspected["ImageName"] == f"localhost/monet-server:{VERSION}"
