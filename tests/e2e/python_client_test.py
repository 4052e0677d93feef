"""The API from a second client: Python's grpcio, with stubs made from proto/ at test time."""

import signal

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

from server_process import Server

PROMPT = "def get_queryset(self):\n    "
MANY_TOKENS = 480
SERVICES = ["", "monet.v1.GenerationService", "monet.v1.PolicyService"]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    process = Server(tmp_path_factory.mktemp("server"))
    yield process
    assert process.stop() == 0


@pytest.fixture()
def channel(server):
    with grpc.insecure_channel(server.address) as connection:
        yield connection


@pytest.fixture()
def stub(api, channel):
    return api.generation_grpc.GenerationServiceStub(channel)


def greedy(api, max_tokens, **more):
    return api.generation.GenerateRequest(
        prompt={"text": PROMPT}, sampling={"temperature": 0}, stopping={"max_tokens": max_tokens},
        **more)


def test_unary_with_and_without_a_policy(api, stub):
    plain = stub.Generate(greedy(api, 16))
    masked = stub.Generate(greedy(api, 16, mask={"policies": ["no-python"]}))
    assert plain.completions[0].text != masked.completions[0].text
    assert len(plain.completions[0].token_ids) == 16
    assert plain.finishes[0].finish_reason == api.generation.FINISH_REASON_LENGTH
    assert [policy.name for policy in masked.header.mask.policies] == ["no-python"]
    assert masked.header.mask.digest != plain.header.mask.digest
    assert masked.finishes[0].removed_weight_share > 0
    assert plain.finishes[0].removed_weight_share == 0


def test_stream_equals_unary(api, stub):
    unary = stub.Generate(greedy(api, 16))
    call = stub.GenerateStream(api.generation.GenerateStreamRequest(request=greedy(api, 16)))
    messages = list(call)
    assert [m.WhichOneof("event") for m in (messages[0], messages[-1])] == ["header", "finish"]
    assert "".join(m.delta.text for m in messages) == unary.completions[0].text
    assert dict(call.initial_metadata())["monet-mask-digest"] == messages[0].header.mask.digest
    assert call.code() == grpc.StatusCode.OK


def test_cancel(api, stub):
    request = api.generation.GenerateStreamRequest(request=greedy(api, MANY_TOKENS))
    call = stub.GenerateStream(request)
    next(call)
    next(call)
    call.cancel()
    with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
        list(call)
    assert call.code() == grpc.StatusCode.CANCELLED
    assert stub.Generate(greedy(api, 1)).completions[0].token_ids  # the server goes on


def test_deadline(api, stub):
    with pytest.raises(grpc.RpcError) as error:
        stub.Generate(greedy(api, MANY_TOKENS), timeout=0.05)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def details(error):
    """What google.rpc's details of an error say, by the names of their messages."""
    found = {}
    for detail in rpc_status.from_call(error).details:
        message = getattr(error_details_pb2, detail.TypeName().rsplit(".", 1)[-1])()
        assert detail.Unpack(message)
        found[type(message).__name__] = message
    return found


@pytest.mark.parametrize("code, reason, field, more", [
    ("INVALID_ARGUMENT", "INVALID_FIELD", "sampling.top_p", {"sampling": {"top_p": 2}}),
    ("INVALID_ARGUMENT", "CONTEXT_TOO_LONG", "prompt", {"stopping": {"max_tokens": 512}}),
    ("NOT_FOUND", "MODEL_UNKNOWN", "model", {"model": "another"}),
    ("NOT_FOUND", "POLICY_UNKNOWN", "mask.policies[1]",
     {"mask": {"policies": ["no-c", "nobody"]}}),
])
@pytest.mark.parametrize("streaming", [False, True])
def test_errors_have_details(api, stub, streaming, code, reason, field, more):
    request = api.generation.GenerateRequest(**{"prompt": {"text": PROMPT}, **more})
    with pytest.raises(grpc.RpcError) as error:
        if streaming:
            list(stub.GenerateStream(api.generation.GenerateStreamRequest(request=request)))
        else:
            stub.Generate(request)
    assert error.value.code().name == code
    found = details(error.value)
    assert set(found) == {"ErrorInfo", "BadRequest"}
    assert (found["ErrorInfo"].domain, found["ErrorInfo"].reason) == ("monet", reason)
    violation, = found["BadRequest"].field_violations
    assert violation.field == field
    assert violation.description == error.value.details()


def test_retry_delays(api, tmp_path):
    """A server that drains says so, and when to try again."""
    server = Server(tmp_path)
    with grpc.insecure_channel(server.address) as connection:
        stub = api.generation_grpc.GenerationServiceStub(connection)
        request = api.generation.GenerateStreamRequest(request=greedy(api, MANY_TOKENS))
        running = stub.GenerateStream(request)
        next(running)
        server.process.send_signal(signal.SIGTERM)
        error = None
        while error is None:  # until the signal has arrived
            try:
                stub.Generate(greedy(api, 1))
            except grpc.RpcError as refusal:
                error = refusal
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        found = details(error)
        assert found["ErrorInfo"].reason == "DRAINING"
        assert found["RetryInfo"].retry_delay == duration_pb2.Duration(seconds=2)
        list(running)
    assert server.process.wait(timeout=30) == 0


def test_errors_have_their_codes(api, stub):
    with pytest.raises(grpc.RpcError) as error:
        stub.Generate(greedy(api, 1, mask={"policies": ["nobody"]}))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as error:
        stub.Generate(greedy(api, 0))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "stopping.max_tokens is 0, range 1 to 512" in error.value.details()


def test_score_and_policies(api, stub, channel):
    score = stub.Score(api.generation.ScoreRequest(prompt={"text": PROMPT}))
    assert len(score.logprobs) == score.header.prompt_tokens - 1
    assert score.total_logprob == pytest.approx(sum(score.logprobs))
    policies = api.policy_grpc.PolicyServiceStub(channel)
    listed = policies.ListPolicies(api.policy.ListPoliciesRequest()).policies
    assert len(listed) == 12
    one = policies.GetPolicy(api.policy.GetPolicyRequest(policy=f"no-c@{listed[1].digest}"))
    assert one.policy == listed[1]


def test_health_check_and_watch(tmp_path):
    server = Server(tmp_path)
    with grpc.insecure_channel(server.address) as connection:
        health = health_pb2_grpc.HealthStub(connection)
        for service in SERVICES:
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as error:
            health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
        assert error.value.code() == grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICES[1]), timeout=20)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert server.process.wait(timeout=30) == 0


def test_reflection(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(SERVICES[1:]) <= set(database.get_services())
    described = database.FindFileContainingSymbol("monet.v1.GenerationService")
    methods = {method.name for method in described.service[0].method}
    assert {"Generate", "GenerateStream", "Score", "GetModel"} <= methods
