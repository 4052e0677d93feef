"""The settings that docs/clients.md recommends do what it says: what is retried, what is not."""

import contextlib
import json
import re
import signal
import sys
import time
from concurrent import futures

import grpc
import pytest
from grpc_status import rpc_status

from server_process import ROOT, Server


@pytest.fixture(scope="module")
def quickstart(api):
    sys.path.insert(0, str(ROOT / "examples/python"))
    import quickstart
    return quickstart


@contextlib.contextmanager
def running_fake(api):
    """A server that is told what to answer, and counts the calls."""

    class Fake(api.generation_grpc.GenerationServiceServicer):
        refusals = []  # codes of the next calls
        messages_before = 0  # of a stream, before its refusal
        response_bytes = 0
        calls = 0

        def refuse(self, context):
            self.calls += 1
            if self.refusals:
                context.abort(self.refusals.pop(0), "refused")

        def Generate(self, request, context):
            self.refuse(context)
            return api.generation.GenerateResponse(
                completions=[{"text": "x" * self.response_bytes}])

        def GenerateStream(self, request, context):
            for _ in range(self.messages_before):
                yield api.generation.GenerateStreamResponse()
            self.refuse(context)
            yield api.generation.GenerateStreamResponse()

    service = Fake()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    api.generation_grpc.add_GenerationServiceServicer_to_server(service, server)
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield service
    server.stop(None).wait()


@pytest.fixture()
def fake(api):
    with running_fake(api) as service:
        yield service


def options_with_short_delays(quickstart):
    config = json.loads(json.dumps(quickstart.SERVICE_CONFIG))
    config["methodConfig"][0]["retryPolicy"]["initialBackoff"] = "0.01s"
    return [("grpc.service_config", json.dumps(config))] + quickstart.OPTIONS[1:]


@pytest.fixture()
def stub(api, quickstart, fake):
    with grpc.insecure_channel(fake.address, options_with_short_delays(quickstart)) as channel:
        yield api.generation_grpc.GenerationServiceStub(channel)


def stream_of(api, stub):
    return stub.GenerateStream(api.generation.GenerateStreamRequest(), timeout=20)


UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def test_unavailable_is_retried(api, fake, stub):
    fake.refusals = [UNAVAILABLE] * 4
    stub.Generate(api.generation.GenerateRequest(), timeout=20)
    assert fake.calls == 5
    fake.refusals = [UNAVAILABLE] * 2
    assert len(list(stream_of(api, stub))) == 1
    assert fake.calls == 8


def test_retries_have_an_end(api, fake, stub):
    fake.refusals = [UNAVAILABLE] * 20
    with pytest.raises(grpc.RpcError) as error:
        stub.Generate(api.generation.GenerateRequest(), timeout=20)
    assert error.value.code() == UNAVAILABLE
    assert fake.calls == 5


@pytest.mark.parametrize("code", [
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_nothing_else_is_retried(api, fake, stub, code):
    fake.refusals = [code]
    with pytest.raises(grpc.RpcError) as error:
        stub.Generate(api.generation.GenerateRequest(), timeout=20)
    assert error.value.code() == code
    assert fake.calls == 1


def test_a_stream_that_began_is_not_retried(api, fake, stub):
    fake.refusals = [UNAVAILABLE]
    fake.messages_before = 1
    call = stream_of(api, stub)
    next(call)
    with pytest.raises(grpc.RpcError) as error:
        next(call)
    assert error.value.code() == UNAVAILABLE
    assert fake.calls == 1


def test_a_call_outlasts_a_restart(api, quickstart, tmp_path):
    """Nothing listens when the call begins; then a server starts, and loads, and answers."""
    (tmp_path / "first").mkdir()
    first = Server(tmp_path / "first")
    with grpc.insecure_channel(first.address, quickstart.OPTIONS) as channel:
        stub = api.generation_grpc.GenerationServiceStub(channel)
        stub.Generate(quickstart.request(1), timeout=20)
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(timeout=30) == 0
        call = stub.Generate.future(quickstart.request(1), timeout=30)
        time.sleep(0.2)
        assert not call.done()
        (tmp_path / "second").mkdir()
        second = Server(tmp_path / "second", listen=first.address, started=r"^  grpc ")
        assert call.result().completions[0].token_ids
        assert second.stop() == 0


def test_a_draining_replica_is_passed_over(api, quickstart, tmp_path):
    """Its refusals are retried on the other one."""
    servers = []
    for name in "first", "second":
        (tmp_path / name).mkdir()
        servers.append(Server(tmp_path / name))
    with grpc.insecure_channel(servers[0].address) as channel:
        long_request = quickstart.request(480, n=16)
        first = api.generation_grpc.GenerationServiceStub(channel)
        running = first.GenerateStream(api.generation.GenerateStreamRequest(request=long_request))
        next(running)
        servers[0].process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError):
            while True:  # until the signal has arrived
                first.Generate(quickstart.request(1))
        both = "ipv4:" + ",".join(server.address for server in servers)
        with grpc.insecure_channel(both, options_with_short_delays(quickstart)) as balanced:
            stub = api.generation_grpc.GenerationServiceStub(balanced)
            for _ in range(10):
                assert stub.Generate(quickstart.request(1), timeout=20).completions
        assert running.is_active()  # so the first one was there, and draining
        running.cancel()
    assert servers[0].process.wait(timeout=30) == 0
    assert servers[1].stop() == 0


def test_round_robin_uses_every_address(api, quickstart, fake):
    with running_fake(api) as other:
        target = f"ipv4:{fake.address},{other.address}"
        with grpc.insecure_channel(target, quickstart.OPTIONS) as channel:
            stub = api.generation_grpc.GenerationServiceStub(channel)
            deadline = time.monotonic() + 20
            while not (fake.calls and other.calls):
                stub.Generate(api.generation.GenerateRequest(), timeout=20)
                assert time.monotonic() < deadline


def test_large_responses_need_the_option(api, fake, stub):
    fake.response_bytes = 5 << 20
    assert stub.Generate(api.generation.GenerateRequest(), timeout=20).completions
    with grpc.insecure_channel(fake.address) as channel:
        with pytest.raises(grpc.RpcError) as error:
            api.generation_grpc.GenerationServiceStub(channel).Generate(
                api.generation.GenerateRequest(), timeout=20)
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rpc_status.from_call(error.value) is None


def test_the_page_shows_the_examples_settings(quickstart):
    page = (ROOT / "docs/clients.md").read_text()
    shown = json.loads(re.search(r"```json\n(.*?)```", page, re.S).group(1))
    assert shown == quickstart.SERVICE_CONFIG
    go = (ROOT / "examples/go/main.go").read_text()
    assert json.loads(re.search(r"serviceConfig = `(.*?)`", go, re.S).group(1)) == shown


def test_the_largest_response_fits(quickstart):
    limits = (ROOT / "runtime/limits.h").read_text()
    megabytes = int(re.search(r"kMaxResponseBytes = (\d+) << 20;", limits).group(1))
    assert dict(quickstart.OPTIONS)["grpc.max_receive_message_length"] == megabytes << 20
    go = (ROOT / "examples/go/main.go").read_text()
    assert f"MaxCallRecvMsgSize({megabytes}<<20)" in go
