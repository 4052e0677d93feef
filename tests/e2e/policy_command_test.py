"""monetctl policy: diff against brute force, verify against a server that is right and one that
lies, push into a directory that a server watches."""

import base64
import hashlib
import json
import os
import pathlib
import subprocess
import zlib
from concurrent import futures

import grpc
import pytest
import yaml

from server_process import ROOT, Server, eventually, generate_api

BINARY = pathlib.Path(os.environ["MONET_SERVER_BINARY"]).with_name("monetctl")
POLICIES = ROOT / "policies"
E = 256


def run(*arguments, code=0):
    """Runs `monetctl policy`; returns standard output and standard error."""
    result = subprocess.run([BINARY, "policy", *map(str, arguments)], capture_output=True,
                            text=True, timeout=60)
    assert result.returncode == code, (result.stdout, result.stderr)
    return result.stdout, result.stderr


def read_json(*arguments, code=0):
    return json.loads(run(*arguments, "--json", code=code)[0])


def removed(name):
    """{(router, i, j)}"""
    bitmap = zlib.decompress((POLICIES / name / "1.mask").read_bytes())
    return {(bit // E**2, bit % E**2 // E, bit % E) for bit in range(8 * len(bitmap))
            if bitmap[bit // 8] >> bit % 8 & 1}


def write_policy(folder, name, version, bitmap, model):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / f"{version}.mask").write_bytes(zlib.compress(bitmap))
    path = folder / name / f"{version}.yaml"
    path.write_text(f"format: 1\nname: {name}\nversion: {version}\nmodel: {model}\n"
                    f"semantics: zero\nrouters: 2\nexperts_per_side: 256\n"
                    f"experts: {{file: {version}.mask, "
                    f"sha256: {hashlib.sha256(bitmap).hexdigest()}}}\n")
    return path


@pytest.fixture(scope="module")
def model():
    return yaml.safe_load((POLICIES / "no-c/1.yaml").read_text())["model"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A server and the directory that it watches, which has no-c@1."""
    policies = tmp_path_factory.mktemp("policies")
    run("push", POLICIES / "no-c/1.yaml", "--to", policies)
    server = Server(tmp_path_factory.mktemp("server"), "--reload-interval", "1",
                    policies=policies)
    server.policies = policies
    yield server
    assert server.stop() == 0


def known(server):
    result = subprocess.run([BINARY, "policies", "--server", server.address, "--json"],
                            capture_output=True, text=True, timeout=60, check=True)
    return {f"{p['name']}@{p['version']}": p["digest"]
            for p in json.loads(result.stdout)["policies"]}


def test_diff_counts_as_sets_do(watched):
    a, b = removed("no-french"), removed("no-spanish")
    got = read_json("diff", POLICIES / "no-french/1.yaml", POLICIES / "no-spanish/1.yaml",
                    "--experts")
    assert (got["only_a"], got["only_b"], got["both"]) == (len(a - b), len(b - a), len(a & b))
    assert got["jaccard"] == len(a & b) / len(a | b)
    for router in range(2):
        in_a, in_b = ({e for e in x if e[0] == router} for x in (a, b))
        row = got["routers"][router]
        assert (row["only_a"], row["only_b"], row["both"]) == (
            len(in_a - in_b), len(in_b - in_a), len(in_a & in_b))
    assert got["experts_only_a"] == [f"r{r}/{i}/{j}" for r, i, j in sorted(a - b)]
    assert got["experts_only_b"] == [f"r{r}/{i}/{j}" for r, i, j in sorted(b - a)]
    assert got["same_model"] and not got["same_digest"]
    text, _ = run("diff", POLICIES / "no-french/1.yaml", POLICIES / "no-spanish/1.yaml")
    assert "different digests" in text
    # One side from a server.
    same = read_json("diff", POLICIES / "no-c/1.yaml", "no-c", "--server", watched.address,
                     "--exit-code")
    assert same["same_digest"] and same["both"] == len(removed("no-c"))
    assert same["a"]["experts_removed"] == same["both"]
    _, error = run("diff", POLICIES / "no-french/1.yaml", "no-c@1", "--server", watched.address,
                   "--exit-code", code=1)
    assert "different digests" in error
    assert "POLICY_UNKNOWN" in run("diff", "no-c", "none", "--server", watched.address, code=1)[1]


def test_diff_refuses_other_shapes(tmp_path, model):
    (tmp_path / "small").mkdir()
    (tmp_path / "small/1.yaml").write_text(
        f"format: 1\nname: small\nversion: 1\nmodel: {model}\nsemantics: zero\nrouters: 1\n"
        "experts_per_side: 3\nexperts: {inline: []}\n")
    assert "3 experts a side" in run("diff", tmp_path / "small/1.yaml", POLICIES / "no-c/1.yaml",
                                     code=2)[1]
    assert "no such file" in run("diff", tmp_path / "none/1.yaml", POLICIES / "no-c/1.yaml",
                                 code=2)[1]


def test_verify_files(tmp_path, model):
    got = read_json("verify", POLICIES, "--model", ROOT / "models/demo")
    assert len(got["policies"]) == 12 and got["other_models"] == 0
    for policy in got["policies"]:
        assert policy["experts_removed"] == len(removed(policy["name"]))
    bitmap = zlib.decompress((POLICIES / "no-c/1.mask").read_bytes())
    ours = write_policy(tmp_path, "no-c", 1, bitmap, model)
    other = write_policy(tmp_path, "no-d", 1, bitmap, "sha256:" + "12" * 32)
    assert read_json("verify", ours)["policies"][0]["digest"] == next(
        p["digest"] for p in got["policies"] if p["name"] == "no-c")
    got = read_json("verify", tmp_path, "--model", ROOT / "models/demo")
    assert [p["name"] for p in got["policies"]] == ["no-c"] and got["other_models"] == 1
    assert "is for the model sha256:1212" in run("verify", other, "--model", ROOT / "models/demo",
                                                 code=2)[1]
    ours.unlink()
    assert "none of them for the model" in run("verify", tmp_path, "--model", ROOT / "models/demo",
                                               code=2)[1]
    damaged = bytearray((tmp_path / "no-d/1.mask").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "no-d/1.mask").write_bytes(damaged)
    assert "1.yaml: experts." in run("verify", other, code=2)[1]
    assert "no-d/1.yaml" in run("verify", tmp_path, code=2)[1]


def test_verify_on_a_server(watched, tmp_path, model):
    got = read_json("verify", POLICIES / "no-c/1.yaml", "--on-server", "--server", watched.address,
                    "--text-file", ROOT / "examples/samples/c.txt")["policies"][0]["server"]
    assert 0 < got["removed"] < got["active"] and 0 < got["removed_weight_share"] < 1
    assert got["tokens"] > 100 and not got["mandatory_too"]
    assert "POLICY_UNKNOWN" in run("verify", POLICIES / "no-java/1.yaml", "--on-server", "--server",
                                   watched.address, code=1)[1]
    other = write_policy(tmp_path, "no-c", 1, bytes(2 * E * E // 8), model)
    assert "another digest on the server" in run("verify", other, "--on-server", "--server",
                                                 watched.address, code=1)[1]
    # One expert that this text does not wake.
    bitmap = bytearray(2 * E * E // 8)
    bitmap[1000] = 1
    rare = write_policy(tmp_path, "rare", 1, bytes(bitmap), model)
    run("push", rare, "--to", watched.policies)
    assert eventually(lambda: "rare@1" in known(watched))
    (tmp_path / "text").write_text("a")
    output, error = run("verify", rare, "--on-server", "--server", watched.address, "--text-file",
                        tmp_path / "text")
    assert "wakes no expert of rare@1" in error and output.endswith("ok\n")


class Proxy:
    """Hands calls on to a server, but for what `change` does to the messages of Explain."""

    def __init__(self, address, change, expert):
        channel = grpc.insecure_channel(address)
        methods = {"GenerationService/GetModel": "unary", "PolicyService/GetPolicy": "unary",
                   "ExpertService/Explain": "stream"}

        def unary(name):
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: channel.unary_unary(f"/monet.v1.{name}")(request))

        def explain(request, context):
            for data in channel.unary_stream("/monet.v1.ExpertService/Explain")(request):
                message = expert.ExplainResponse.FromString(data)
                change(message)
                yield message.SerializeToString()

        handlers = {f"/monet.v1.{name}": unary(name) if kind == "unary" else
                    grpc.unary_stream_rpc_method_handler(explain) for name, kind in methods.items()}

        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                return handlers.get(details.method)

        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers((Handler(),))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()


def test_verify_finds_a_server_that_does_not_remove(watched, tmp_path):
    expert = generate_api(tmp_path).expert

    def first(message, is_removed):
        for activation in message.activations:
            for active in activation.experts:
                if active.removed == is_removed:
                    active.removed = not is_removed
                    return

    def lose(message):
        if len(message.activations) > 1:
            del message.activations[-1]

    def forget(message):
        del message.header.mask.policies[:]

    def weigh(message):
        for activation in message.activations:
            activation.removed_weight += 0.01

    def other_mask(message):
        if message.HasField("header"):
            message.header.mask.digest = "sha256:" + "0" * 64

    cases = [(lambda message: None, None),
             (lambda message: first(message, True), "is not removed"),
             (lambda message: first(message, False), "is removed, but not by no-c@1"),
             (lose, "activations of"), (forget, "was not applied"), (weigh, "a removed weight of"),
             (other_mask, "another mask")]
    for change, complaint in cases:
        proxy = Proxy(watched.address, change, expert)
        _, error = run("verify", POLICIES / "no-c/1.yaml", "--on-server", "--server", proxy.address,
                       "--text-file", ROOT / "examples/samples/c.txt", code=1 if complaint else 0)
        assert (complaint or "") in error and bool(error) == bool(complaint)
        proxy.server.stop(None)


def test_push_is_taken_and_rolled_back(watched, tmp_path, model):
    bitmap = bytearray(zlib.decompress((POLICIES / "no-c/1.mask").read_bytes()))
    before = known(watched)
    same = write_policy(tmp_path, "no-c", 1, bytes(bitmap), model)
    assert read_json("push", same, "--to", watched.policies)["policies"][0]["result"] == "unchanged"
    bitmap[0] ^= 1
    changed = write_policy(tmp_path, "no-c", 1, bytes(bitmap), model)
    assert "give it another number" in run("push", changed, "--to", watched.policies, code=2)[1]
    second = write_policy(tmp_path, "no-c", 2, bytes(bitmap), model)
    got = read_json("push", second, POLICIES / "no-java/1.yaml", "--to", watched.policies)
    assert [p["result"] for p in got["policies"]] == ["written", "written"]
    assert eventually(lambda: {"no-c@2", "no-java@1"} <= known(watched).keys())
    assert known(watched)["no-c@2"] == got["policies"][0]["digest"]
    assert before.items() <= known(watched).items()

    # Taken back, the first version is the highest again; the second returns with its content only.
    for file in ("2.yaml", "2.mask"):
        (watched.policies / "no-c" / file).unlink()
    assert eventually(lambda: "no-c@2" not in known(watched))
    bitmap[1] ^= 1
    third = write_policy(tmp_path, "no-c", 2, bytes(bitmap), model)
    run("push", third, "--to", watched.policies)
    failures = 'monet_policy_reload_failures_total{model_name="demo"}'
    assert eventually(lambda: watched.metrics()[failures] > 0)
    assert "no-c@2" not in known(watched) and "no-c@1" in known(watched)
    (watched.policies / "no-c/2.yaml").unlink()
    bitmap[1] ^= 1
    run("push", write_policy(tmp_path, "no-c", 2, bytes(bitmap), model), "--to", watched.policies)
    assert eventually(lambda: known(watched).get("no-c@2") == got["policies"][0]["digest"])


def test_push_tells_of_a_directory_that_is_refused(tmp_path):
    (tmp_path / "README").write_text("no policy")
    _, error = run("push", POLICIES / "no-c/1.yaml", "--to", tmp_path, code=1)
    assert "is written, but servers refuse the directory: README" in error


def test_configmap(tmp_path, model):
    second = write_policy(tmp_path, "no-c", 2, bytes(2 * E * E // 8), model)
    output, _ = run("push", POLICIES / "no-c/1.yaml", second, "--configmap", "policy.no-c",
                    "--namespace", "models")
    config = json.loads(output)
    assert config["metadata"] == {"name": "policy.no-c", "namespace": "models"}
    assert (config["apiVersion"], config["kind"]) == ("v1", "ConfigMap")
    for source in (POLICIES / "no-c/1", tmp_path / "no-c/2"):
        assert config["data"][f"{source.name}.yaml"] == source.with_suffix(".yaml").read_text()
        assert base64.b64decode(config["binaryData"][f"{source.name}.mask"], validate=True) == (
            source.with_suffix(".mask").read_bytes())
    noise = write_policy(tmp_path, "noise", 1, os.urandom(2 * E * E // 8), model)
    files = [write_policy(tmp_path, "noise", n, os.urandom(2 * E * E // 8), model)
             for n in range(2, 68)]
    assert "a ConfigMap holds 1048576" in run("push", noise, *files, "--configmap", "x", code=2)[1]
    for arguments, complaint in (
            (["--configmap", "X"], "no name of an object"), ([], "give one of them"),
            (["--configmap", "x", "--to", tmp_path], "give one of them"),
            (["--to", tmp_path, "--namespace", "y"], "needs --configmap"),
            ([POLICIES / "no-c/1.yaml", "--configmap", "x"], "given twice"),
            ([POLICIES / "no-java/1.yaml", "--configmap", "x"], "holds one policy")):
        assert complaint in run("push", POLICIES / "no-c/1.yaml", *arguments, code=2)[1]
