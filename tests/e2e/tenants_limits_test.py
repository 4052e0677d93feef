"""The limits of tenants over the wire: what each may ask for and use, who tells it, and where its
calls are recorded."""

import json

import grpc
import pytest

from server_process import eventually
from tenants_server import GENERATE, PROMPT, Api, Server, bearer, generate, reason_of, refusal

LIMITED = """
tenants:
- name: small
  limits:
    {max_prompt_tokens: 12, max_tokens: 8, max_n: 2, max_top_logprobs: 1, max_priority: 3}
- name: slow
  limits: {requests_per_minute: 2}
- name: poor
  limits: {tokens_per_minute: 60}
- name: one
  limits: {concurrent: 1}
- name: free
- name: full
  limits: {max_prompt_tokens: 101, max_tokens: 102, requests_per_minute: 103,
           tokens_per_minute: 104, concurrent: 105, distinct_masks: 106}
"""
LIMITED_KEYS = {f"key-of-{name}": name for name in ("small", "slow", "poor", "one", "free", "full")}


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limited")
    process = Server(folder, LIMITED, LIMITED_KEYS, ["--usage-log", folder / "usage.jsonl"])
    process.usage = folder / "usage.jsonl"
    yield process
    assert process.stop() == 0


def told(make_call):
    """(code, reason, delay, text) of a refusal."""
    with pytest.raises(grpc.RpcError) as error:
        make_call()
    reason, delay = reason_of(error.value)
    return error.value.code(), reason, delay, error.value.details()


@pytest.mark.parametrize("limit, fields", [
    ("max_prompt_tokens", {"prompt": {"text": "one two three four five six seven eight nine ten"}}),
    ("max_tokens", {"stopping": {"max_tokens": 9}}),
    ("max_n", {"n": 3}),
    ("max_top_logprobs", {"logprob_options": {"logprobs": True, "top_logprobs": 2}}),
    ("max_priority", {"priority": 4}),
])
def test_a_call_may_be_as_large_as_its_tenant_has_it(limited, limit, fields):
    request = {"prompt": {"text": "a"}, **fields}
    code, reason, delay, text = told(lambda: generate(limited, "key-of-small", **request))
    assert (code, reason, delay) == (grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED", None)
    assert f"({limit})" in text
    assert generate(limited, "key-of-small", prompt={"text": "a"}, stopping={"max_tokens": 8}, n=2,
                    priority=3).header


def test_the_default_length_fits_the_tenants_limit(limited):
    response = generate(limited, "key-of-small", prompt={"text": "a"}, stopping={})
    assert response.finishes[0].usage.completion_tokens == 8


def test_the_model_tells_the_tenants_limits(limited):
    api = Api(limited.channel)
    method = "monet.v1.GenerationService/GetModel"
    own = ["max_prompt_tokens", "max_tokens", "requests_per_minute", "tokens_per_minute",
           "concurrent", "distinct_masks"]

    def limits_of(tenant):
        limits = api.call(method, api.request(method), bearer(f"key-of-{tenant}"))[0].limits
        return limits, {name: getattr(limits, name) for name in own if limits.HasField(name)}

    limits, given = limits_of("small")
    assert (limits.max_completions, limits.max_top_logprobs, limits.max_priority) == (2, 1, 3)
    assert given == {"max_prompt_tokens": 12, "max_tokens": 8}
    limits, given = limits_of("free")
    assert (limits.max_completions, limits.max_top_logprobs, limits.max_priority) == (16, 20, 0)
    assert given == {}
    assert limits_of("full")[1] == dict(zip(own, range(101, 107), strict=True))


@pytest.mark.parametrize("method, fields", [
    (GENERATE, {"stopping": {"max_tokens": 2}}),
    ("monet.v1.GenerationService/Score", {}),
])
def test_a_prompt_is_cut_to_the_tenants_limit(limited, method, fields):
    api = Api(limited.channel)
    prompt = {"text": "one two three four five six seven eight nine ten " * 4, "truncation": 3}

    def header(**more):
        request = api.request(method, prompt={**prompt, **more}, **fields)
        return api.call(method, request, bearer("key-of-small"))[0].header

    assert header().prompt_tokens == 12
    assert header().truncated_tokens > 12
    code, reason, _, text = told(lambda: header(truncate_prompt_tokens=13))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
    assert "(max_prompt_tokens)" in text


@pytest.mark.parametrize("reason, fields", [
    ("INVALID_FIELD", {"n": -1}),
    ("INVALID_FIELD", {"priority": -1}),
    ("POLICY_UNKNOWN", {"mask": {"policies": ["nobody"]}}),
    ("LIMIT_EXCEEDED", {"stopping": {"max_tokens": 9}}),
])
def test_refused_calls_are_recorded_with_their_id(limited, reason, fields):
    name = f"refused-{reason}-{next(iter(fields))}"
    request = {"prompt": {"text": "a"}, "request_id": name, **fields}
    assert told(lambda: generate(limited, "key-of-small", **request))[1] == reason

    def lines():
        return [json.loads(line) for line in limited.usage.read_text().splitlines()]

    assert eventually(lambda: any(line["request_id"] == name for line in lines()), 5)
    line = next(line for line in lines() if line["request_id"] == name)
    assert (line["tenant"], line["reason"]) == ("small", reason)


def test_requests_a_minute_count_every_method(limited):
    api = Api(limited.channel)
    method = "monet.v1.PolicyService/ListPolicies"
    generate(limited, "key-of-slow")
    api.call(method, api.request(method), bearer("key-of-slow"))
    for call in (lambda: generate(limited, "key-of-slow"),
                 lambda: api.call(method, api.request(method), bearer("key-of-slow"))):
        code, reason, delay, text = told(call)
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert 20 < delay <= 30
        assert "(requests_per_minute)" in text
    assert generate(limited, "key-of-free").header


def test_tokens_a_minute_are_charged_and_the_rest_given_back(limited):
    text = {"prompt": {"token_ids": {"ids": [5, 6, 7, 8]}}}
    used = generate(limited, "key-of-poor", **text, stopping={"max_tokens": 50, "stop": [" "]})
    tokens = 4 + used.finishes[0].usage.completion_tokens
    assert tokens < 30  # it stopped long before what it was charged
    generate(limited, "key-of-poor", **text, stopping={"max_tokens": 20})
    code, reason, delay, message = told(
        lambda: generate(limited, "key-of-poor", **text, stopping={"max_tokens": 50}))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert 0 < delay <= 60 and "(tokens_per_minute)" in message
    code, reason, delay, _ = told(
        lambda: generate(limited, "key-of-poor", **text, stopping={"max_tokens": 57}))
    assert (reason, delay) == ("LIMIT_EXCEEDED", None)


def test_calls_at_a_time(limited):
    api = Api(limited.channel)
    method = "monet.v1.GenerationService/GenerateStream"
    request = api.request(method, request={**PROMPT, "stopping": {"max_tokens": 400}})
    stream = limited.channel.unary_stream(
        f"/{method}", type(request).SerializeToString, lambda data: data)
    running = stream(request, timeout=60, metadata=bearer("key-of-one"))
    next(running)
    code, reason, delay, text = told(lambda: generate(limited, "key-of-one"))
    assert (code, reason, delay) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED, "CONCURRENCY_LIMITED", 0.5)
    assert "(concurrent)" in text
    running.cancel()
    assert eventually(lambda: refusal(lambda: generate(limited, "key-of-one")) == "OK")
    # The place is free when the caller knows that its call is over.
    for _ in range(20):
        generate(limited, "key-of-one")


def test_usage_is_written_and_counted(limited):
    before = limited.metric("monet_tenant_generation_tokens_total", tenant="free")
    generate(limited, "key-of-free", request_id="paid", stopping={"max_tokens": 5})
    refusal(lambda: generate(limited, "key-of-small", n=16))
    assert eventually(lambda: '"max_n"' in limited.usage.read_text())
    lines = [json.loads(line) for line in limited.usage.read_text().splitlines()]
    paid = [line for line in lines if line["request_id"] == "paid"]
    assert len(paid) == 1
    assert paid[0]["tenant"] == "free" and paid[0]["code"] == "OK"
    assert paid[0]["method"] == "GenerationService/Generate" and paid[0]["model"] == "demo"
    assert paid[0]["completion_tokens"] == 5 and paid[0]["prompt_tokens"] > 5
    assert paid[0]["duration_ms"] > 0 and paid[0]["policies"] == []
    assert lines[-1]["reason"] == "LIMIT_EXCEEDED" and lines[-1]["limit"] == "max_n"
    assert limited.metric("monet_tenant_generation_tokens_total", tenant="free") == before + 5
    assert limited.metric("monet_tenant_limited_total", tenant="small", limit="max_n") >= 1
    assert limited.metric("monet_tenant_requests_total", tenant="free", code="OK") >= 1
