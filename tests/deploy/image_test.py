"""The image as a user would run it: read-only, without capabilities, as nobody in particular."""

import re
import threading
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from container_image import BASE, IMAGE, health_command
from server_process import eventually

SERVE = ["--model", "/models/demo", "--policies", "/etc/monet/policies", "--listen", "127.0.0.1:0"]


def ready(containers, name):
    """The port of a server once it is ready, and all that it printed."""
    assert eventually(lambda: re.search("^ready$", containers.logs(name), re.M), 30), (
        containers.logs(name))
    printed = containers.logs(name)
    return re.search(r"^  grpc +\S+:(\d+)$", printed, re.M).group(1), printed


def test_the_image_is_small_and_belongs_to_root(containers):
    image = containers.inspect(IMAGE)
    assert image["Config"]["User"] == "65532:65532"
    assert image["Config"]["StopSignal"] == "SIGTERM"
    assert image["Size"] - containers.inspect(BASE)["Size"] < 80e6
    listing = containers.output(
        "podman", "run", "--rm", "--user", "0", "--entrypoint", "/bin/sh", IMAGE, "-c",
        "find /usr/bin/monet-server /usr/bin/monetctl /models /etc/monet ! -user root -o -perm /22;"
        "find /usr /etc -nogroup -o -nouser; ls /usr/bin | grep -Ex 'g[+]+|cmake|ninja' || true")
    assert listing == ""


def test_equal_bases_give_equal_images(containers):
    first = containers.inspect(IMAGE)["Id"]
    assert containers.build("cpu", "--no-cache", tag="localhost/monet-server:again") == first


def test_without_arguments_it_serves_the_demo_model(api, containers):
    command = containers.inspect(IMAGE)["Config"]["Cmd"]
    assert "0.0.0.0:50051" in command and "0.0.0.0:9090" in command
    # The same on free ports, since the host's network is used.
    free = [re.sub(r"^0\.0\.0\.0:\d+$", "0.0.0.0:0", word) for word in command]
    with containers.container(*free) as name:
        port, printed = ready(containers, name)
        assert "loading /models/demo" in printed
        assert f"  /usr/bin/monetctl generate --server 127.0.0.1:{port} " in printed
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            response = api.generation_grpc.GenerationServiceStub(channel).Generate(
                api.generation.GenerateRequest(prompt={"text": "def f(x):"},
                                               mask={"policies": ["no-python"]},
                                               stopping={"max_tokens": 8}))
            assert response.header.mask.policies[0].name == "no-python"
            assert len(response.completions) == 1
        metrics = re.search(r"^  metrics +(\S+)$", printed, re.M).group(1)
        with urllib.request.urlopen(metrics.replace("0.0.0.0", "127.0.0.1")) as page:
            assert "monet_generation_tokens_total" in page.read().decode()
        inside = containers.output("podman", "exec", name, "/usr/bin/monetctl", "generate",
                                   "--server", f"127.0.0.1:{port}", "--max-tokens", "3",
                                   "--temperature", "0", "And the LORD")
        assert inside
        # Nothing can be written, and there is nobody to become.
        for path in ("/x", "/tmp/x", "/models/demo/x", "/usr/bin/x"):
            denied = containers.run("podman", "exec", name, "/bin/sh", "-c", f"echo > {path}")
            assert denied.returncode != 0, path
        status = containers.output("podman", "exec", name, "/bin/sh", "-c", "cat /proc/1/status")
        assert re.search(r"^Uid:\s+65532\s+65532\s+65532\s+65532$", status, re.M)
        assert re.search(r"^CapEff:\s+0+$", status, re.M)


def check_health(containers, name, port):
    """What the image's health check says of a container whose server has this port."""
    return containers.run("podman", "exec", "-e", f"MONET_SERVER=127.0.0.1:{port}", name,
                          *health_command())


def test_the_health_check_tells_whether_it_serves(containers, tmp_path):
    alone = containers.run("podman", "run", "--rm", "--network", "none", "--read-only",
                           "--entrypoint", health_command()[0], IMAGE, *health_command()[1:])
    assert alone.returncode == 1 and "cannot connect to 127.0.0.1:50051" in alone.stderr
    with containers.container(*SERVE) as name:
        port, _ = ready(containers, name)
        healthy = check_health(containers, name, port)
        assert (healthy.returncode, healthy.stdout) == (0, "SERVING\n")
    # A server that runs but is not ready: a tenant's mandatory policy is missing.
    (tmp_path / "tenants.yaml").write_text("tenants: [{name: acme, require: [not-yet]}]\n")
    (tmp_path / "keys.yaml").write_text(f"keys: [{{tenant: acme, sha256: {'0' * 64}}}]\n")
    tmp_path.chmod(0o755)
    arguments = ["--tenants", "/own/tenants.yaml", "--keys", "/own/keys.yaml"]
    with containers.container(*SERVE, *arguments, options=["-v", f"{tmp_path}:/own:ro"]) as name:
        assert eventually(lambda: "not-yet" in containers.logs(name), 30), containers.logs(name)
        port = re.search(r"^  grpc +\S+:(\d+)$", containers.logs(name), re.M).group(1)
        unhealthy = check_health(containers, name, port)
        assert (unhealthy.returncode, unhealthy.stdout) == (1, "NOT_SERVING\n")


def test_a_drain_loses_nothing(api, containers):
    with containers.container(*SERVE) as name:
        port, _ = ready(containers, name)
        tokens, finish, errors = [], [], []

        def stream():
            request = api.generation.GenerateRequest(
                prompt={"text": "The"}, sampling={"seed": 3},
                stopping={"max_tokens": 400, "ignore_eos": True})
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = api.generation_grpc.GenerationServiceStub(channel)
                try:
                    for message in stub.GenerateStream(
                            api.generation.GenerateStreamRequest(request=request)):
                        tokens.extend(message.delta.token_ids)
                        if message.HasField("finish"):
                            finish.append(message.finish.finish_reason)
                except grpc.RpcError as error:
                    errors.append(error.code())

        reader = threading.Thread(target=stream)
        reader.start()
        assert eventually(lambda: tokens, 20)
        containers.output("podman", "stop", "-t", "30", name)
        reader.join(30)
        assert errors == [] and len(tokens) == 400
        assert finish == [api.generation.FINISH_REASON_LENGTH]
        assert containers.inspect(name)["State"]["ExitCode"] == 0


def test_threads_and_memory_are_those_of_the_container(api, containers):
    with containers.container(*SERVE, options=["--cpus", "1", "--memory", "1g"]) as name:
        port, printed = ready(containers, name)
        assert re.search(r"^  threads +1$", printed, re.M), printed
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = api.generation_grpc.GenerationServiceStub(channel)
            calls = [stub.Generate.future(api.generation.GenerateRequest(
                prompt={"token_ids": {"ids": [1] + [5] * 400}}, n=4, sampling={"seed": n},
                stopping={"max_tokens": 20})) for n in range(4)]
            assert all(call.result() for call in calls)
        status = containers.output("podman", "exec", name, "/bin/sh", "-c", "cat /proc/1/status")
        high_water = int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M).group(1)) << 10
        assert high_water < 1 << 30
    tokens = []
    for memory in ("1g", "350m"):
        with containers.container(*SERVE, options=["--memory", memory]) as name:
            _, printed = ready(containers, name)
            tokens.append(int(re.search(r"^  kv cache +(\d+) tokens", printed, re.M).group(1)))
    assert tokens[1] < tokens[0], "the smaller container has the smaller cache"
    refused = containers.run("podman", "run", "--rm", "--network", "host", "--read-only",
                             "--memory", "200m", IMAGE, *SERVE)
    assert refused.returncode == 2
    assert re.search(r"memory: \d+ bytes are needed, \d+ are available", refused.stderr)


@pytest.mark.parametrize("arguments, message", [
    ([*SERVE[:4], "--listen", "0.0.0.0:0"], "allow_anonymous"),
    (["--model", "/models/none", *SERVE[2:]], "/models/none"),
])
def test_bad_starts_end_with_code_2(containers, arguments, message):
    result = containers.run("podman", "run", "--rm", "--network", "host", "--read-only", IMAGE,
                            *arguments)
    assert result.returncode == 2
    assert message.replace("_", "-") in result.stderr.replace("_", "-")
