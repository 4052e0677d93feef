"""Whatever other tenants do, a tenant's results stay the same to the bit and its calls are let in:
random tenants flood the server with long and short calls, masks, mistakes, cancels and deadlines
while one tenant goes on with its work."""

import random
import threading

import grpc
import pytest

from tenants_server import Api, Server, bearer

GENERATE = "monet.v1.GenerationService/Generate"
STREAM = "monet.v1.GenerationService/GenerateStream"
SCORE = "monet.v1.GenerationService/Score"
TOKENIZE = "monet.v1.GenerationService/Tokenize"
POLICIES = ["no-c", "no-english", "no-french", "no-german", "no-insults", "no-java", "no-kjv",
            "no-python", "no-spanish"]
TEXTS = ["def get_queryset(self):", "And the LORD said", "Shut up, you", "Le petit chat",
         "int main(", "El perro", "Es war einmal", "public static void"]
# What a flood may be answered with: its own limits and mistakes, and its own share of the queue.
EXPECTED = {"OK", "RESOURCE_EXHAUSTED", "NOT_FOUND", "PERMISSION_DENIED", "INVALID_ARGUMENT",
            "CANCELLED", "DEADLINE_EXCEEDED"}


def tenant_yaml(draw, name):
    lines = [f"- name: {name}"]
    if draw.random() < 0.7:
        lines.append(f"  require: {draw.sample(POLICIES, draw.randint(1, 3))}".replace("'", ""))
    lines.append(f"  allow: {draw.choice(['all', '[no-kjv, no-java]'])}")
    lines.append(f"  explicit_masks: {draw.choice(['true', 'false'])}")
    lines.append(f"  weight: {draw.randint(1, 20)}")
    limits = {"concurrent": draw.randint(2, 40), "distinct_masks": draw.randint(1, 4),
              "requests_per_minute": draw.randint(100, 100000),
              "tokens_per_minute": draw.randint(2000, 1000000), "max_n": draw.randint(1, 16)}
    chosen = draw.sample(sorted(limits), draw.randint(0, len(limits)))
    lines.append("  limits: {" + ", ".join(f"{key}: {limits[key]}" for key in chosen) + "}")
    return "\n".join(lines) + "\n"


def work(draw):
    """The quiet tenant's calls: (method, fields)."""
    calls = []
    for number in range(8):
        fields = {"prompt": {"text": draw.choice(TEXTS)}}
        if draw.random() < 0.5:
            fields["mask"] = {"policies": draw.sample(POLICIES, draw.randint(1, 2))}
        if number % 4 == 3:
            calls.append((SCORE, fields))
            continue
        fields |= {"stopping": {"max_tokens": draw.randint(2, 12)}, "n": draw.randint(1, 2),
                   "sampling": {"temperature": draw.choice([0.0, 1.0]), "seed": number},
                   "logprob_options": {"logprobs": True, "top_logprobs": 2}}
        calls.append((GENERATE, fields))
    return calls


def result(api, method, fields, key):
    """What the caller got, to the bit, without what names the call."""
    answer = api.call(method, api.request(method, **fields), bearer(key))[0]
    answer.header.ClearField("request_id")
    return answer.SerializeToString(deterministic=True)


class Flood:
    """Threads of one tenant that call as fast as they can, and what they were answered."""

    def __init__(self, address, name, seed, threads):
        self.key = f"key-of-{name}"
        self.codes = set()
        self.calls = 0
        self.stop = threading.Event()
        self.channel = grpc.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.api = Api(self.channel)
        self.threads = [threading.Thread(target=self.run, args=(random.Random(f"{seed}-{i}"),))
                        for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, draw):
        while not self.stop.is_set():
            self.calls += 1
            try:
                self.one(draw)
                self.codes.add("OK")
            except grpc.RpcError as error:
                self.codes.add(error.code().name)

    def one(self, draw):
        metadata = bearer(self.key)
        mask = draw.choice([{}, {"policies": [draw.choice(POLICIES)]}, {"policies": ["no-such"]},
                            {"experts": [{"router": 0, "rows": [draw.randrange(256)]}]},
                            {"experts": [{"router": 0, "rows": [9999]}]}])
        fields = {"prompt": {"text": draw.choice(TEXTS) * draw.randint(1, 20)}, "mask": mask,
                  "stopping": {"max_tokens": draw.randint(1, 200)}, "n": draw.choice([1, 1, 4, 16])}
        kind = draw.randrange(5)
        if kind == 0:
            self.api.call(TOKENIZE, self.api.request(TOKENIZE, text="x " * 20000), metadata)
            return
        if kind == 1:
            self.api.call(GENERATE, self.api.request(GENERATE, **fields), metadata)
            return
        request = self.api.request(STREAM, request=fields)
        call = self.channel.unary_stream(f"/{STREAM}", type(request).SerializeToString, bytes)(
            request, timeout=draw.choice([0.05, 5]), metadata=metadata)
        for number, _ in enumerate(call):
            if number == draw.randrange(4) or self.stop.is_set():
                call.cancel()

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        self.channel.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_floods_leave_another_tenant_alone(tmp_path, seed):
    draw = random.Random(seed)
    names = [f"noisy{number}" for number in range(draw.randint(2, 3))]
    quiet = "- name: quiet\n  require: [no-insults]\n  allow: all\n  limits: {concurrent: 2}\n"
    tenants = "tenants:\n" + "".join(tenant_yaml(draw, name) for name in names) + quiet
    keys = {f"key-of-{name}": name for name in [*names, "quiet"]}
    server = Server(tmp_path, tenants, keys,
                    ["--max-queue", "64", "--mask-slots", "4", "--max-running", "8",
                     "--log-level", "error"])
    api = Api(server.channel)
    calls = work(draw)
    alone = [result(api, method, fields, "key-of-quiet") for method, fields in calls]
    floods = [Flood(server.address, name, f"{seed}-{name}", 8) for name in names]
    try:
        # Any refusal raises.
        beside = [result(api, method, fields, "key-of-quiet") for method, fields in calls]
    finally:
        for flood in floods:
            flood.end()
    assert beside == alone, tenants
    for flood in floods:
        assert flood.calls > 0 and flood.codes <= EXPECTED, (flood.key, flood.codes)
    after = [result(api, method, fields, "key-of-quiet") for method, fields in calls]
    assert after == alone
    assert server.stop() == 0
