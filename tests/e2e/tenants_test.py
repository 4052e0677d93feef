"""Tenants over the wire: who is let in, what holds on every method whatever a request says, and
what a reload changes."""

import json
import threading

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from server_process import eventually
from tenants_server import (
    GENERATE, PROMPT, SHORT, Api, Server, bearer, generate, keys_yaml, refusal, replace)

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
