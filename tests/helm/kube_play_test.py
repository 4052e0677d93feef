"""The rendered chart in containers, without Kubernetes: `podman kube play`, two tenants with
different mandatory policies, the probes asked as the kubelet would, and the script of `helm test`.

Podman (4.3) knows no projected volumes and mounts Secrets undecoded, so the test lays out both as
the kubelet does; networks of containers need rights that not every machine gives, so the pod has
the host's. Skipped, with the reason, where there are no containers."""

import base64
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

import chart_render
from chart_render import CI, find, mask_digest, objects, overlay
from container_image import IMAGE

MONETCTL = os.environ["MONETCTL_BINARY"]

def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def lay_out(volume, found, folder):
    """A projected volume of ConfigMaps as the kubelet writes it: links to ..data, which is a link
    that it swaps."""
    data = folder / "..2026_01_01"
    for source in volume["projected"]["sources"]:
        config = find(found, "ConfigMap", source["configMap"]["name"])
        content = {key: text.encode() for key, text in config["data"].items()}
        content |= {key: base64.b64decode(text) for key, text in config["binaryData"].items()}
        for item in source["configMap"]["items"]:
            if item["key"] in content:
                path = data / item["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content[item["key"]])
    (folder / "..data").symlink_to(data.name)
    for path in data.iterdir():
        (folder / path.name).symlink_to(f"..data/{path.name}")


class Pod:
    """The Deployment of the chart, adapted to podman as the head of this file says."""

    def __init__(self, containers, folder):
        self.containers, self.file = containers, folder / "pod.yaml"
        repository, _, tag = IMAGE.rpartition(":")
        values = {key: value for key, value in CI["tenants"].items() if key != "models"}
        tenants = CI["tenants"]["models"]["demo"]["tenants"]
        self.ports = [free_port() for _ in range(3)]
        values = overlay(values, {
            "image": {"repository": repository, "tag": tag},
            "models": {"demo": {
                "tenants": {**tenants, "gateway": {"subjects": []}},
                "settings": {"kv_tokens": 2048, "reload_interval": 1},
                "extraArgs": [word for flag, port in zip(
                    ("listen", "health-listen", "metrics-listen"), self.ports)
                    for word in (f"--{flag}", f"127.0.0.1:{port}")],
                "test": {"enabled": True, "maskDigest": mask_digest("no-insults"),
                         "keySecret": {"name": "acme"}}}}})
        self.found = objects(values)
        self.keys = {}
        for tenant in ("acme", "beta"):
            self.keys[tenant] = subprocess.run(
                [MONETCTL, "key", "new", "--tenant", tenant, "--append", folder / "keys.yaml"],
                check=True, capture_output=True, text=True).stdout.strip()
        self.deployment = find(self.found, "Deployment")
        self.spec = self.deployment["spec"]["template"]["spec"]
        volumes = {one["name"]: one for one in self.spec["volumes"]}
        for name in ("policies", "keys"):
            (folder / name).mkdir()
        lay_out(volumes["policies"], self.found, folder / "policies")
        assert volumes["keys"]["secret"]["secretName"] == "monet-keys"
        shutil.copy(folder / "keys.yaml", folder / "keys")
        (folder / "keys/keys.yaml").chmod(0o644)
        for name in ("policies", "keys"):
            volumes[name].clear()
            volumes[name] |= {"name": name, "hostPath": {"path": str(folder / name),
                                                         "type": "Directory"}}
        self.spec["hostNetwork"] = True
        del self.spec["containers"][0]["ports"]  # podman maps them, which the host's network cannot
        played = [one for one in self.found if one["kind"] == "ConfigMap"]
        self.file.write_text(yaml.safe_dump_all([*played, self.deployment]))

    def start(self):
        self.containers.output("podman", "kube", "play", self.file)
        names = self.containers.output("podman", "ps", "--all", "--format", "{{.Names}}").split()
        self.container = next(name for name in names if name.endswith("-server"))

    def logs(self):
        return self.containers.logs(self.container)

    def call(self, tenant, *more):
        """monetctl generate, with the tenant's key."""
        return subprocess.run(
            [MONETCTL, "generate", "--server", f"127.0.0.1:{self.ports[0]}", "--json",
             "--max-tokens", "4", *more, "Hello"], capture_output=True, text=True, timeout=60,
            env={**os.environ, "MONET_KEY": self.keys[tenant]})


@pytest.fixture(scope="module")
def pod(containers, tmp_path_factory):
    # It holds the pod; Debian keeps it where podman looks.
    if shutil.which("catatonit", path=f"{os.environ['PATH']}:/usr/libexec/podman") is None:
        pytest.skip("catatonit is not installed")
    played = Pod(containers, tmp_path_factory.mktemp("pod"))
    try:
        played.start()
        for _ in range(75):
            if re.search(r"^ready$", played.logs(), re.M):
                break
            time.sleep(0.2)
        else:
            pytest.fail(played.logs())
        yield played
    finally:
        containers.run("podman", "kube", "down", played.file)


def applied(done):
    assert done.returncode == 0, done.stderr
    return {(one["name"], one["mandatory"]) for one in yaml.safe_load(done.stdout)["policies"]}


def test_each_tenant_has_its_own_mandatory_policy(pod):
    assert applied(pod.call("acme")) == {("no-insults", True)}
    assert applied(pod.call("beta")) == {("no-python", True)}
    assert applied(pod.call("acme", "--policy", "no-python")) == {
        ("no-insults", True), ("no-python", False)}
    refused = pod.call("beta", "--policy", "no-insults")
    assert refused.returncode == 1 and "POLICY_UNKNOWN" in refused.stderr


def test_nobody_is_served_without_a_key(pod):
    done = subprocess.run([MONETCTL, "generate", "--server", f"127.0.0.1:{pod.ports[0]}", "Hi"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "UNAUTHENTICATED" in done.stderr


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_are_answered(pod, probe):
    service = pod.spec["containers"][0][probe]["grpc"]["service"]
    with grpc.insecure_channel(f"127.0.0.1:{pod.ports[1]}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_root_is_read_only_and_the_user_none(pod):
    shown = pod.containers.inspect(pod.container)
    assert shown["HostConfig"]["ReadonlyRootfs"] is True
    assert shown["Config"]["User"].split(":")[0] == "65532"
    assert not shown["EffectiveCaps"]


@pytest.mark.parametrize("digest, passes", [
    (mask_digest("no-insults"), True), (mask_digest("no-python"), False)], ids=["right", "wrong"])
def test_the_script_of_helm_test(pod, tmp_path, digest, passes):
    spec = find(pod.found, "Pod")["spec"]
    container = spec["containers"][0]
    (tmp_path / "key").write_text(pod.keys["acme"])
    (tmp_path / "key").chmod(spec["volumes"][0]["secret"]["defaultMode"])
    command = [word.replace("/usr/bin/monetctl", MONETCTL)
               .replace("/etc/monet/key/key", str(tmp_path / "key"))
               for word in container["command"] + container["args"]]
    address = command.index("--server") + 1
    assert command[address] == f"r-monet-demo.{chart_render.NAMESPACE}.svc:50051"
    command[address] = f"127.0.0.1:{pod.ports[0]}"
    assert container["env"] == [{"name": "MASK_DIGEST", "value": mask_digest("no-insults")}]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "MASK_DIGEST": digest})
    assert (done.returncode == 0) is passes, done.stdout + done.stderr


def test_a_new_version_arrives_without_a_restart(pod, tmp_path):
    """The kubelet's swap of ..data, in the running pod."""
    volume = next(one for one in pod.spec["volumes"] if one["name"] == "policies")
    folder = pathlib.Path(volume["hostPath"]["path"])
    shutil.copytree(folder / "..2026_01_01", folder / "..2026_01_02")
    text = (folder / "no-python/1.yaml").read_text()
    new = re.sub(r"experts: .*", "experts: {inline: [{router: 0, rows: [7]}]}",
                 text.replace("version: 1", "version: 2"))
    (folder / "..2026_01_02/no-python/2.yaml").write_text(new)
    (folder / "..data_tmp").symlink_to("..2026_01_02")
    (folder / "..data_tmp").rename(folder / "..data")
    for _ in range(100):
        done = pod.call("beta")
        if yaml.safe_load(done.stdout)["policies"][0]["version"] == 2:
            return
        time.sleep(0.2)
    pytest.fail(pod.logs())


def test_it_drains(pod):
    pod.containers.output("podman", "stop", "--time", "20", pod.container)
    shown = pod.containers.inspect(pod.container)
    assert shown["State"]["ExitCode"] == 0
    assert "drained" in pod.logs()
