"""The rendered chart in containers, without Kubernetes: `podman kube play`, two tenants with
different mandatory policies, the probes asked as the kubelet would, and the script of `helm test`.

The image is localhost/monet-server:VERSION where that was built, else one made here of the binaries
and their libraries. Podman (4.3) knows no projected volumes and mounts Secrets undecoded, so the
test lays out both as the kubelet does; networks of containers need rights that not every machine
gives, so the pod has the host's. Skipped, with the reason, where podman cannot run a container."""

import base64
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tarfile
import time

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

import chart_render
from chart_render import CI, ROOT, find, mask_digest, objects, overlay

BINARIES = [pathlib.Path(os.environ[name]) for name in ("MONET_SERVER_BINARY", "MONETCTL_BINARY")]
VERSION = (ROOT / "VERSION").read_text().strip()
SERVER_IMAGE = f"localhost/monet-server:{VERSION}"

CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Podman:
    """Podman with a store of its own, unless the image of the server is in the machine's."""

    def __init__(self, folder):
        (folder / "containers.conf").write_text(CONTAINERS_CONF)
        self.environment = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
        self.options = []
        self.image = SERVER_IMAGE
        if self.run("image", "exists", self.image).returncode != 0:
            self.options = ["--root", folder / "root", "--runroot", folder / "run",
                            "--storage-driver", "vfs"]
            self.image = f"localhost/monet-binaries:{VERSION}"
            self._make_image(folder / "image.tar")

    def run(self, *arguments):
        return subprocess.run(["podman", *self.options, *arguments], env=self.environment,
                              capture_output=True, text=True, timeout=120)

    def _make_image(self, path):
        with tarfile.open(path, "w") as tar:
            for binary in BINARIES:
                tar.add(binary, f"usr/bin/{binary.name}")
            listed = subprocess.run(["ldd", *BINARIES], check=True, capture_output=True, text=True)
            for library in sorted(set(re.findall(r"(/\S+\.so\S*)", listed.stdout))):
                tar.add(os.path.realpath(library), library.lstrip("/"))
            tar.add(ROOT / "models/demo", "models/demo")
        done = self.run("import", path, self.image)
        if done.returncode != 0:
            pytest.skip(f"podman cannot import an image here: {last_line(done)}")


def last_line(done):
    return (done.stderr.strip().splitlines() or ["no message"])[-1]


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

    def __init__(self, podman, folder):
        self.podman, self.file = podman, folder / "pod.yaml"
        repository, _, tag = podman.image.rpartition(":")
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
                [BINARIES[1], "key", "new", "--tenant", tenant, "--append", folder / "keys.yaml"],
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
        done = self.podman.run("kube", "play", self.file)
        if done.returncode != 0:
            return last_line(done)
        names = self.podman.run("ps", "--all", "--format", "{{.Names}}").stdout.split()
        self.container = next(name for name in names if name.endswith("-server"))
        return None

    def logs(self):
        done = self.podman.run("logs", self.container)
        return done.stdout + done.stderr

    def call(self, tenant, *more):
        """monetctl generate, with the tenant's key."""
        return subprocess.run(
            [BINARIES[1], "generate", "--server", f"127.0.0.1:{self.ports[0]}", "--json",
             "--max-tokens", "4", *more, "Hello"], capture_output=True, text=True, timeout=60,
            env={**os.environ, "MONET_KEY": self.keys[tenant]})


@pytest.fixture(scope="module")
def pod(tmp_path_factory):
    for tool in ("podman", "runc", "catatonit"):
        if not any(map(os.path.exists, (shutil.which(tool) or "", f"/usr/libexec/podman/{tool}"))):
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("podman")
    podman = Podman(folder)
    trial = podman.run("run", "--rm", "--network", "host", "--no-healthcheck", "--entrypoint",
                       "/usr/bin/monetctl", podman.image, "--version")
    if trial.returncode != 0:
        pytest.skip(f"podman cannot run a container here: {last_line(trial)}")
    played = Pod(podman, folder)
    # From here on nothing is skipped: a machine that runs containers must run this one.
    failed = played.start()
    assert failed is None, failed
    try:
        for _ in range(75):
            if re.search(r"^ready$", played.logs(), re.M):
                break
            time.sleep(0.2)
        else:
            pytest.fail(played.logs())
        yield played
    finally:
        podman.run("kube", "down", played.file)
        if podman.options:
            podman.run("system", "reset", "--force")


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
    done = subprocess.run([BINARIES[1], "generate", "--server", f"127.0.0.1:{pod.ports[0]}", "Hi"],
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
    shown = yaml.safe_load(pod.podman.run("inspect", pod.container).stdout)[0]
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
    command = [word.replace("/usr/bin/monetctl", str(BINARIES[1]))
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
    done = pod.podman.run("stop", "--time", "20", pod.container)
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(pod.podman.run("inspect", pod.container).stdout)[0]
    assert shown["State"]["ExitCode"] == 0
    assert "drained" in pod.logs()
