"""Tenants over the wire: who is let in, what holds on every method whatever a request says, and
what a reload changes."""

import json
import threading

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from server_process import eventually
from tenants_server import Api, Server, bearer, keys_yaml, reason_of, refusal, replace

TENANTS = """
tenants:
- name: acme
  require: [no-insults@1]
  allow: [no-python]
- name: beta
  require: [no-python@1, no-c]
  allow: all
  explicit_masks: true
"""
KEYS = {"key-of-acme": "acme", "key-of-beta": "beta"}
MANDATORY = {"acme": {"no-insults"}, "beta": {"no-c", "no-python"}}
GENERATE = "monet.v1.GenerationService/Generate"
PROMPT = {"prompt": {"text": "def get_queryset(self):"}}
SHORT = {**PROMPT, "stopping": {"max_tokens": 2}}

# Every method of the API: the least request that it takes, and what it does. "model": it runs the
# model, and its first response has a header that tells the mask. "other": it does not.
# "unimplemented": it is declared only.
MATRIX = {
    GENERATE: ("model", SHORT),
    "monet.v1.GenerationService/GenerateStream": ("model", {"request": SHORT}),
    "monet.v1.GenerationService/Score": ("model", PROMPT),
    "monet.v1.GenerationService/Tokenize": ("other", {"text": "a"}),
    "monet.v1.GenerationService/Detokenize": ("other", {"token_ids": [5]}),
    "monet.v1.GenerationService/GetModel": ("other", {}),
    "monet.v1.PolicyService/ListPolicies": ("other", {}),
    "monet.v1.PolicyService/GetPolicy": ("other", {"policy": "no-python"}),
    "monet.v1.ExpertService/Explain": ("model", PROMPT),
    "monet.v1.ExpertService/CollectRouting": ("unimplemented", {**PROMPT, "label": "x"}),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = Server(tmp_path_factory.mktemp("tenants"), TENANTS, KEYS)
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="module")
def api(server):
    return Api(server.channel)


def start(tmp_path, tenants, keys, *more, wait=True):
    return Server(tmp_path, tenants, keys, more, wait)


def generate(server, key, **fields):
    """The only response of Generate."""
    api = Api(server.channel)
    return api.call(GENERATE, api.request(GENERATE, **{**SHORT, **fields}), bearer(key))[0]


def applied(response):
    return {policy.name for policy in response.header.mask.policies if policy.mandatory}


def test_every_method_is_in_the_matrix(api):
    assert set(api.methods) - set(MATRIX) == set(), "add it to MATRIX"
    assert GENERATE in api.methods


@pytest.mark.parametrize("method", MATRIX)
@pytest.mark.parametrize("metadata", [
    (),
    bearer("key-of-nobody"),
    bearer(""),
    (("authorization", "Basic key-of-acme"),),
    bearer("key-of-acme") + bearer("key-of-beta"),
    (("monet-tenant", "acme"),),
    bearer("key-of-acme") + (("monet-tenant", "acme"),),
], ids=["none", "unknown", "empty", "basic", "two", "gateway", "key-and-gateway"])
def test_no_method_serves_a_caller_that_it_does_not_know(api, method, metadata):
    if method not in api.methods:
        pytest.skip("this server does not have it")
    request = api.request(method, **MATRIX[method][1])
    with pytest.raises(grpc.RpcError) as error:
        api.call(method, request, metadata)
    if MATRIX[method][0] == "unimplemented":
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
        return
    assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert error.value.details() == (
        "the call carries no valid credentials of a tenant of this server")


def fields_of(descriptor, path=()):
    """Every field of a message and of those in it, as a path of descriptors."""
    for field in descriptor.fields:
        is_message = field.message_type is not None
        is_map = is_message and field.message_type.GetOptions().map_entry
        if is_message and not is_map:
            if field.message_type not in [step.message_type for step in path]:
                yield from fields_of(field.message_type, path + (field,))
        else:
            yield path + (field,)


def set_field(message, path):
    """Gives the field at the path a value that means something where it can."""
    for field in path[:-1]:
        message = getattr(message, field.name)
        if field.is_repeated if hasattr(field, "is_repeated") else field.label == 3:
            message = message.add()
    field = path[-1]
    if field.message_type is not None:  # a map
        getattr(message, field.name)[7] = 1
        return
    values = {FieldDescriptor.CPPTYPE_BOOL: True, FieldDescriptor.CPPTYPE_STRING: "no-python",
              FieldDescriptor.CPPTYPE_DOUBLE: 0.5, FieldDescriptor.CPPTYPE_FLOAT: 0.5}
    value = b"\0" * 8 if field.type == FieldDescriptor.TYPE_BYTES else values.get(field.cpp_type, 1)
    repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == 3
    if repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


@pytest.mark.parametrize("method", [name for name, row in MATRIX.items() if row[0] == "model"])
@pytest.mark.parametrize("tenant", MANDATORY)
def test_mandatory_policies_hold_whatever_field_a_request_sets(api, method, tenant):
    if method not in api.methods:
        pytest.skip("this server does not have it")
    metadata = bearer(f"key-of-{tenant}")

    def run(edit):
        request = api.request(method, **MATRIX[method][1])
        edit(request)
        return api.call(method, request, metadata)[0].header

    plain = run(lambda request: None)
    assert {policy.name for policy in plain.mask.policies} == MANDATORY[tenant]
    ran = 0
    for path in fields_of(api.methods[method].input_type):
        name = ".".join(field.name for field in path)
        try:
            header = run(lambda request: set_field(request, path))
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
                                    grpc.StatusCode.PERMISSION_DENIED), name
            continue
        ran += 1
        mandatory = {policy.name for policy in header.mask.policies if policy.mandatory}
        assert mandatory == MANDATORY[tenant], name
        assert header.mask.experts_removed >= plain.mask.experts_removed, name
        if ".mask." not in f".{name}.":
            assert header.mask.digest == plain.mask.digest, name
    assert ran >= 3


def test_a_tenant_sees_and_names_only_what_is_its_own(api):
    policies = "monet.v1.PolicyService/ListPolicies"
    get = "monet.v1.PolicyService/GetPolicy"
    model = "monet.v1.GenerationService/GetModel"
    key = bearer("key-of-acme")
    listed = api.call(policies, api.request(policies), key)[0].policies
    assert [policy.name for policy in listed] == ["no-insults", "no-python"]
    described = api.call(model, api.request(model), key)[0]
    assert [policy.name for policy in described.mandatory_policies] == ["no-insults"]
    assert [policy.name for policy in described.allowed_policies] == ["no-python"]
    assert not described.explicit_masks_allowed

    def answer(method, make):
        with pytest.raises(grpc.RpcError) as error:
            api.call(method, make, key)
        return error.value.code(), error.value.details()

    for name in ("no-c", "nobody"):
        code, text = answer(get, api.request(get, policy=name))
        assert (code, text) == (grpc.StatusCode.NOT_FOUND, f"policy {name} is not known")
        code, text = answer(GENERATE, api.request(GENERATE, **SHORT, mask={"policies": [name]}))
        assert code == grpc.StatusCode.NOT_FOUND
        assert text == f"mask.policies[0]: policy {name} is not known"
    experts = api.request(GENERATE, **SHORT, mask={"experts": [{"router": 0, "rows": [1]}]})
    assert refusal(lambda: api.call(GENERATE, experts, key)) == "MASK_NOT_ALLOWED"
    assert api.call(GENERATE, experts, bearer("key-of-beta"))
    everything = api.call(policies, api.request(policies), bearer("key-of-beta"))[0].policies
    assert len(everything) == 12


def test_two_tenants_of_one_prompt_run_under_their_own_masks(server):
    headers = {tenant: generate(server, f"key-of-{tenant}").header for tenant in MANDATORY}
    assert headers["acme"].mask.digest != headers["beta"].mask.digest


def test_keys_rotate_while_the_server_runs(tmp_path):
    server = start(tmp_path, TENANTS, KEYS)
    replace(server.keys, keys_yaml({**KEYS, "next-of-acme": "acme"}))
    assert eventually(lambda: refusal(lambda: generate(server, "next-of-acme")) == "OK")
    assert applied(generate(server, "key-of-acme")) == {"no-insults"}
    replace(server.keys, keys_yaml({"next-of-acme": "acme"}))
    assert eventually(lambda: refusal(lambda: generate(server, "key-of-acme")) == "UNAUTHENTICATED")
    assert applied(generate(server, "next-of-acme")) == {"no-insults"}
    # A file with an error changes nothing but a metric and the log.
    failures = "monet_tenants_reload_failures_total"
    assert server.metric(failures) == 0
    replace(server.tenants, TENANTS + "  limit: {}\n")
    # Counted at every look, so that an alert on its increase lasts as long as the error.
    assert eventually(lambda: server.metric(failures) >= 2)
    assert applied(generate(server, "next-of-acme")) == {"no-insults"}
    assert "tenants.yaml: tenants[1].limit (line 10): unknown key" in server.err.read_text()
    assert str(tmp_path) not in server.err.read_text()
    assert server.stop() == 0


def test_reload_under_load(tmp_path):
    """Whatever moment a call meets, it runs under one of the two sets, and none fails."""
    server = start(tmp_path, TENANTS, KEYS)
    masks = []
    stop = threading.Event()

    def load():
        api = Api(server.channel)
        request = api.request(GENERATE, **SHORT)
        while not stop.is_set():
            masks.append(frozenset(
                applied(api.call(GENERATE, request, bearer("key-of-acme"))[0])))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    other = TENANTS.replace("no-insults@1", "no-german, no-french@1")
    sets = [frozenset({"no-insults"}), frozenset({"no-german", "no-french"})]
    try:
        for text, expected in ((other, sets[1]), (TENANTS, sets[0])):
            replace(server.tenants, text)
            assert eventually(lambda: masks and masks[-1] == expected)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(masks) == set(sets)
    assert server.metric("monet_tenants_reloads_total") == 2
    assert server.stop() == 0


UNRESOLVED = TENANTS + "- name: gamma\n  require: [no-insults@1, no-such@3]\n"


def test_a_server_that_lacks_a_mandatory_policy_is_not_ready(tmp_path):
    keys = {**KEYS, "key-of-gamma": "gamma"}
    server = start(tmp_path, UNRESOLVED, keys, wait=False)
    assert eventually(lambda: "tenant gamma requires no-such@3: policy no-such@3 is not known"
                      in server.err.read_text())
    assert server.health() == "NOT_SERVING"
    assert "\nready\n" not in server.out.read_text()
    unresolved = "monet_mandatory_policy_unresolved"
    assert server.metric(unresolved, tenant="gamma", policy="no-such@3") == 1
    assert refusal(lambda: generate(server, "key-of-gamma")) == "POLICY_UNAVAILABLE"
    replace(server.tenants, UNRESOLVED.replace(", no-such@3", ""))
    assert eventually(lambda: server.health() == "SERVING")
    assert eventually(lambda: "\nready\n" in server.out.read_text())
    assert server.metric(unresolved) == 0
    assert applied(generate(server, "key-of-gamma")) == {"no-insults"}
    replace(server.tenants, UNRESOLVED)
    assert eventually(lambda: server.health() == "NOT_SERVING")
    assert server.stop() == 0


def test_refuse_tenant_serves_the_others(tmp_path):
    keys = {**KEYS, "key-of-gamma": "gamma"}
    server = start(tmp_path, UNRESOLVED, keys, "--on-unresolved-mandatory", "refuse_tenant")
    assert server.health() == "SERVING"
    assert applied(generate(server, "key-of-acme")) == {"no-insults"}
    for fields in ({}, {"mask": {"policies": ["no-insults"]}}):
        assert refusal(lambda: generate(server, "key-of-gamma", **fields)) == "POLICY_UNAVAILABLE"
    with pytest.raises(grpc.RpcError) as error:
        generate(server, "key-of-gamma")
    assert "no-such" not in error.value.details()
    assert server.metric("monet_mandatory_policy_unresolved", tenant="gamma") == 1
    assert server.stop() == 0


def test_callers_without_credentials_are_served_only_where_configured(tmp_path):
    anonymous = TENANTS + "- name: anonymous\n  require: [no-french]\n"
    server = start(tmp_path, anonymous, KEYS)
    api = Api(server.channel)
    response = api.call(GENERATE, api.request(GENERATE, **SHORT))[0]
    assert applied(response) == {"no-french"}
    assert applied(generate(server, "key-of-acme")) == {"no-insults"}
    assert refusal(lambda: generate(server, "wrong")) == "UNAUTHENTICATED"
    assert server.stop() == 0


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
"""
LIMITED_KEYS = {f"key-of-{name}": name for name in ("small", "slow", "poor", "one", "free")}


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
    limits = api.call(method, api.request(method), bearer("key-of-small"))[0].limits
    assert (limits.max_completions, limits.max_top_logprobs, limits.max_priority) == (2, 1, 3)
    limits = api.call(method, api.request(method), bearer("key-of-free"))[0].limits
    assert (limits.max_completions, limits.max_top_logprobs, limits.max_priority) == (16, 20, 0)


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


def test_a_shadow_is_measured_and_changes_nothing(tmp_path):
    """What it would remove is what the policy removes when it is applied."""
    log = tmp_path / "usage.jsonl"
    one = start(tmp_path, "tenants:\n- name: acme\n  shadow: [no-python]\n  allow: all\n"
                          "- name: plain\n  allow: all\n",
                {"key-of-acme": "acme", "key-of-plain": "plain"}, "--usage-log", log)
    score = "monet.v1.GenerationService/Score"

    def run(key, **fields):
        api = Api(one.channel)
        return api.call(score, api.request(score, **PROMPT, **fields), bearer(key))[0]
    measured, plain = run("key-of-acme"), run("key-of-plain")
    applied_too = run("key-of-plain", mask={"policies": ["no-python"]})
    assert list(measured.logprobs) == list(plain.logprobs) != list(applied_too.logprobs)
    assert not measured.header.mask.policies and measured.removed_weight_share == 0
    assert one.stop() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["tenant"] for line in lines] == ["acme", "plain", "plain"]
    assert ["shadow_weight_share" in line for line in lines] == [True, False, False]
    # The first layer routes alike under both; later ones do not, since the mask was not applied.
    share = lines[0]["shadow_weight_share"]
    assert 0.5 < share / applied_too.removed_weight_share < 2
    assert share > 0.01


def test_usage_names_the_policies(server):
    generate(server, "key-of-acme", mask={"policies": ["no-python"]})
    for policy in ("no-insults", "no-python"):
        assert server.metric("monet_policy_requests_total", policy=policy) >= 1
