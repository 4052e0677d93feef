"""monetctl policy collect against sums made here, token by token, from what Explain says."""

import array
import hashlib
import json
import math
import os
import pathlib
import random
import signal
import struct
import subprocess
import time

import grpc
import pytest

from server_process import ROOT, Server, generate_api

BINARY = pathlib.Path(os.environ["MONET_SERVER_BINARY"]).with_name("monetctl")
E = 256
CELLS = 2 * E * E  # R·E²
LABELS = ["c", "german", "kjv"]


def command(*arguments):
    return [BINARY, "policy", "collect", *map(str, arguments)]


def run(*arguments, code=0):
    result = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120)
    assert result.returncode == code, (result.stdout, result.stderr)
    return result.stdout if code == 0 else result.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = Server(tmp_path_factory.mktemp("server"))
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return generate_api(tmp_path_factory.mktemp("api"))


def documents():
    """[(label, text)]: pieces of the samples, one longer than the context, one in two languages."""
    result = []
    for label in LABELS:
        text = (ROOT / f"examples/samples/{label}.txt").read_text()
        result += [(label, text[n:n + 150]) for n in range(0, 600, 150)]
    return result + [("c", text * 3), ("german", "Hallo"), ("kjv", "Hallo")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for n, (label, text) in enumerate(documents()):
        (root / label).mkdir(exist_ok=True)
        (root / label / f"{n}.txt").write_text(text)
    return root


@pytest.fixture(scope="module")
def whole(server, folder):
    """The statistics of the folder, in one go."""
    out = folder.parent / "whole.safetensors"
    out.unlink(missing_ok=True)
    run("--server", server.address, "--data", folder, "--out", out)
    return out.read_bytes()


def read(data):
    """({tensor: bytes}, about)"""
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    tensors = {name: data[8 + length + info["data_offsets"][0]:8 + length + info["data_offsets"][1]]
               for name, info in header.items() if name != "__metadata__"}
    return tensors, json.loads(tensors["about"])


def nearest(value):
    return math.floor(value + 0.5)


def routing(api, server, text):
    """A document's tokens as {expert: weight in 2^-32}, its windows by hand."""
    channel = grpc.insecure_channel(server.address)
    stub = api.generation_grpc.GenerationServiceStub(channel)
    bos = list(stub.Tokenize(api.generation.TokenizeRequest(text="", add_bos=True)).token_ids)
    ids = list(stub.Tokenize(api.generation.TokenizeRequest(text=text, add_bos=False)).token_ids)
    explain = channel.unary_stream(
        "/monet.v1.ExpertService/Explain",
        request_serializer=api.expert.ExplainRequest.SerializeToString,
        response_deserializer=api.expert.ExplainResponse.FromString)
    tokens = []
    for first in range(0, len(ids), 511):
        request = api.expert.ExplainRequest(top_n=8192)
        request.prompt.token_ids.ids.extend(bos + ids[first:first + 511])
        window = [{} for _ in bos + ids[first:first + 511]]
        for message in explain(request):
            for activation in message.activations:
                window[activation.position].update(
                    ((activation.router * E + x.i) * E + x.j, nearest(x.weight * 2**32))
                    for x in activation.experts if x.weight > 0)
        tokens += window[1:]
    assert len(tokens) == len(ids)
    return tokens


def brute_force(api, server, data, labels, scored):
    """{tensor: array} of [(label, text, score)]."""
    kinds = {"weights": "Q", "means": "Q", "mean_squares": "Q", "active": "I"}
    if scored:
        kinds |= {"squares": "Q", "products": "q"}
    sums = {name: array.array(kind, bytes(len(labels) * 2 * CELLS * struct.calcsize(kind)))
            for name, kind in kinds.items()}
    totals = {(label, half): [0, 0, 0, 0] for label in labels for half in range(2)}
    for label, text, score in data:
        half = hashlib.sha256(text.encode()).digest()[31] & 1
        first = (labels.index(label) * 2 + half) * CELLS
        tokens = routing(api, server, text)
        fixed = nearest(score * 2**20) if score >= 0 else -nearest(-score * 2**20)
        own = {}
        for token in tokens:
            for expert, weight in token.items():
                own[expert] = own.get(expert, 0) + weight
                sums["active"][first + expert] += 1
                if scored:
                    sums["squares"][first + expert] += (weight * weight + 2**23) >> 24
        for expert, weight in own.items():
            mean = (weight + len(tokens) // 2) // len(tokens)
            sums["weights"][first + expert] += weight
            sums["means"][first + expert] += mean
            sums["mean_squares"][first + expert] += (mean * mean + 2**15) >> 16
            if scored:
                product = (weight * abs(fixed) + 2**19) >> 20
                sums["products"][first + expert] += product if fixed >= 0 else -product
        total = totals[label, half]
        for n, value in enumerate([1, len(tokens), fixed * len(tokens),
                                   ((fixed * fixed + 128) >> 8) * len(tokens)]):
            total[n] += value
    return sums, totals


def compare(data, api, server, expected, labels, scored):
    tensors, about = read(data)
    sums, totals = brute_force(api, server, expected, labels, scored)
    assert [entry["label"] for entry in about["labels"]] == labels and about["complete"]
    for entry in about["labels"]:
        for half in range(2):
            got = entry["halves"][half]
            assert [got["documents"], got["tokens"], got["scores"], got["score_squares"]] == (
                totals[entry["label"], half])
    for name, values in sums.items():
        assert tensors[name] == values.tobytes(), name
    assert about["scored"] == scored and (about["routers"], about["experts_per_side"]) == (2, E)
    hashes = sorted((labels.index(label), hashlib.sha256(text.encode()).digest())
                    for label, text, _ in expected)
    assert tensors["documents"] == b"".join(digest for _, digest in hashes)
    assert list(array.array("i", tensors["document_labels"])) == [label for label, _ in hashes]


def test_sums_are_those_of_explain(server, api, whole):
    data = [(label, text, 0) for label, text in documents()]
    compare(whole, api, server, data, LABELS, scored=False)


def test_scored_sums(server, api, tmp_path):
    data = [("scored", text, score) for (_, text), score in zip(
        documents()[:6], [0.5, -0.25, 1, 0, 0.123456789, -100])]
    (tmp_path / "data.jsonl").write_text("".join(
        json.dumps({"text": text, "score": score}) + "\n" for _, text, score in data))
    run("--server", server.address, "--data", tmp_path / "data.jsonl", "--out", tmp_path / "out")
    compare((tmp_path / "out").read_bytes(), api, server, data, ["scored"], scored=True)


def test_neither_order_nor_form_matters(server, whole, tmp_path):
    lines = [json.dumps({"label": label, "text": text}) for label, text in documents()]
    lines += [lines[0], lines[5], json.dumps({"text": "", "label": "c"})]
    random.Random(1).shuffle(lines)
    (tmp_path / "data.jsonl").write_text("\n\n".join(lines))
    got = json.loads(run("--server", server.address, "--data", tmp_path / "data.jsonl", "--out",
                         tmp_path / "out", "--json"))
    assert (got["repeated"], got["empty"]) == (2, 1)
    assert [x["documents"] for x in got["labels"]] == [5, 5, 5]
    assert (tmp_path / "out").read_bytes() == whole


def test_broken_off_and_gone_on_with(server, whole, folder, tmp_path):
    """Killed at any moment, and interrupted: the end has the same bytes."""
    out = tmp_path / "out"
    rng = random.Random(2)
    middles = 0
    for n in range(8):
        process = subprocess.Popen(
            command("--server", server.address, "--data", folder, "--out", out, "--save-every", 1,
                    *(["--resume"] if out.exists() else [])), stdout=subprocess.DEVNULL)
        time.sleep(0.1 + rng.random() / 4)
        process.send_signal(signal.SIGINT if n % 3 == 2 else signal.SIGKILL)
        process.wait(60)
        if not out.exists():
            continue
        _, about = read(out.read_bytes())
        known = sum(half["documents"] for label in about["labels"] for half in label["halves"])
        assert about["complete"] == (process.returncode == 0) or known == 15
        middles += 0 < known < 15
        if about["complete"]:
            break
    assert middles > 0
    run("--server", server.address, "--data", folder, "--out", out, "--resume")
    assert out.read_bytes() == whole


def test_a_number_of_tokens(server, folder, tmp_path):
    """Which documents are taken follows from their hashes alone."""
    out = tmp_path / "out"
    got = json.loads(run("--server", server.address, "--data", folder, "--out", out, "--max-tokens",
                         100, "--json"))
    tensors, about = read(out.read_bytes())
    assert about["max_tokens"] == 100
    labels = list(array.array("i", tensors["document_labels"]))
    for n, entry in enumerate(got["labels"]):
        hashes = sorted(hashlib.sha256(text.encode()).digest() for label, text in documents()
                        if label == entry["label"])
        first = labels.index(n)
        count = entry["documents"]
        assert tensors["documents"][32 * first:32 * (first + count)] == b"".join(hashes[:count])
        assert entry["tokens"] >= 100 and count < 5
    error = run("--server", server.address, "--data", folder, "--out", out, "--resume", code=2)
    assert "--max-tokens 100" in error


def test_what_is_refused(server, whole, folder, tmp_path):
    out = tmp_path / "out"
    server_at = ["--server", server.address]
    assert "not there to be gone on with" in run(*server_at, "--data", folder, "--out", out,
                                                 "--resume", code=2)
    out.write_bytes(whole)
    assert "--resume goes on with it" in run(*server_at, "--data", folder, "--out", out, code=2)
    data = tmp_path / "data.jsonl"
    known = [{"label": label, "text": text} for label, text in documents()]
    data.write_text("\n".join(map(json.dumps, known[1:])))
    assert "1 documents that the data has not" in run(*server_at, "--data", data, "--out", out,
                                                      "--resume", code=2)
    data.write_text("\n".join(map(json.dumps, known + [{"label": "x", "text": "y"}])))
    assert "other labels" in run(*server_at, "--data", data, "--out", out, "--resume", code=2)
    assert out.read_bytes() == whole
    for damage in (whole[:-1], whole[:100], b"", whole.replace(b'"routers":2', b'"routers":3'),
                   whole.replace(b'"documents":', b'"documentz":', 1)):
        out.write_bytes(damage)
        run(*server_at, "--data", folder, "--out", out, "--resume", code=2)
        assert out.read_bytes() == damage
    out.unlink()
    for lines, complaint in (
            ('{"text": "a"}', "line 1: has neither label nor score"),
            ('{"label": "a"}', "line 1: has no text"), ("[]", "line 1: is no JSON object"),
            ('{"text": "a", "label": "b"}\n{', "line 2: is no JSON object"),
            ('{"text": "a", "text": "b", "label": "c"}', "the key 'text' twice"),
            ('{"text": "a", "label": "b", "id": 1}', "'id' is no text, label or score"),
            ('{"text": 1, "label": "b"}', "'text' is no text"),
            ('{"text": "a", "label": "b/c"}', "the label must be"),
            ('{"text": "a", "score": 101}', "the score must be from"),
            ('{"text": "a", "score": 1}\n{"text": "b", "label": "c"}', "some documents have"),
            ('{"text": "a", "score": 1}\n{"text": "a", "score": 2}', "one text has the scores"),
            ('{"text": "", "label": "b"}', "there are no documents"), ("", "no documents"),
            ('{"text": "' + "\x00" + '", "label": "b"}', "line 1"),
            ("\n".join(f'{{"text": "a", "label": "l{n}"}}' for n in range(257)), "limit 33554432")):
        data.write_text(lines)
        assert complaint in run(*server_at, "--data", data, "--out", out, code=2), lines[:99]
    data.write_bytes(b'{"text": "\xff", "label": "b"}')
    assert "line 1" in run(*server_at, "--data", data, "--out", out, code=2)
    assert not out.exists()


def test_not_under_the_policies_of_a_tenant(tmp_path):
    """What a mandatory policy removes changes what later layers route."""
    tenants = tmp_path / "tenants.yaml"
    tenants.write_text("tenants:\n- name: anonymous\n  require: [no-c@1]\n")
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys: []\n")
    server = Server(tmp_path, "--tenants", tenants, "--keys", keys)
    (tmp_path / "data.jsonl").write_text('{"text": "int main", "label": "c"}')
    error = run("--server", server.address, "--data", tmp_path / "data.jsonl", "--out",
                tmp_path / "out.safetensors", code=1)
    assert "adds policies to this caller's calls" in error
    assert server.stop() == 0
