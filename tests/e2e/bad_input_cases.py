"""Bad requests, and requests at the limits, as a table: what is sent to which methods and what the
server must say. bad_input_test.py sends them.

A change is what makes a good request bad: a dict is merged into the method's good request, bytes
are appended to it as they are (fields of protobuf's wire format, which no generated class would
write). `OK` is a request that looks bad and is not.
"""

import dataclasses

MAX32 = 2**31 - 1
MIN32 = -2**31
MAX64 = 2**63 - 1
DENORMAL = 5e-324
NAN = float("nan")
INFINITY = float("inf")
VOCABULARY = 4096  # of models/demo, as are these
CONTEXT = 512
SIDE = 256  # E
ROUTERS = 2

CHAT_TAGS = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")

PROMPT = {"prompt": {"text": "def"}}


@dataclasses.dataclass(frozen=True)
class Method:
    path: str
    request: str  # message type in monet.v1
    good: dict
    fields: frozenset  # which groups of cases its request takes
    streams: bool = False
    wrapper: str = ""  # the message whose field `request` holds the request, if one does


def _method(path, request, good, fields, **more):
    return Method("/monet.v1." + path, request, good, frozenset(fields.split()), **more)


# A method that takes a Prompt and a MaskSpec gets all their cases by one line here.
METHODS = {
    "Generate": _method("GenerationService/Generate", "GenerateRequest",
                        {**PROMPT, "stopping": {"max_tokens": 1}}, "run generate"),
    "GenerateStream": _method("GenerationService/GenerateStream", "GenerateRequest",
                              {**PROMPT, "stopping": {"max_tokens": 1}}, "run generate",
                              streams=True, wrapper="GenerateStreamRequest"),
    "Score": _method("GenerationService/Score", "ScoreRequest", PROMPT, "run score"),
    "Explain": _method("ExpertService/Explain", "ExplainRequest", PROMPT, "run explain",
                       streams=True),
    "Tokenize": _method("GenerationService/Tokenize", "TokenizeRequest", {"text": "def"},
                        "tokenize"),
    "Detokenize": _method("GenerationService/Detokenize", "DetokenizeRequest",
                          {"token_ids": [1]}, "detokenize"),
    "GetModel": _method("GenerationService/GetModel", "GetModelRequest", {}, ""),
    "ListPolicies": _method("PolicyService/ListPolicies", "ListPoliciesRequest", {}, "list"),
    "GetPolicy": _method("PolicyService/GetPolicy", "GetPolicyRequest", {"policy": "no-c"},
                         "policy"),
}


@dataclasses.dataclass(frozen=True)
class Case:
    fields: str  # sent to the methods whose requests have these fields; "any": to all
    name: str
    change: object  # dict or bytes
    code: str = "INVALID_ARGUMENT"
    reason: str = "INVALID_FIELD"  # empty: gRPC itself answers, without details
    field: str = ""


def ok(fields, name, change):
    return Case(fields, name, change, "OK", "", "")


def varint(value):
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7f:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def wire(number, payload):
    """A field of protobuf's wire format: bytes as a string or message, an int as a varint."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def _numbers(path, bad, good=(), fields="generate"):
    """One case for each value of a field given by its path."""
    for value in (*bad, *good):
        change = value
        for name in reversed(path.split(".")):
            change = {name: change}
        name = f"{path} = {value}"
        yield Case(fields, name, change, field=path) if value in bad else ok(fields, name, change)


def _float_field(path, too_low, too_high, good):
    # NaN equals nothing, itself included.
    change = {path.split(".")[1]: NAN}
    yield Case("generate", f"{path} = nan", {path.split(".")[0]: change}, field=path)
    yield from _numbers(path, (INFINITY, -INFINITY, DENORMAL, -DENORMAL, too_low, too_high,
                               -1e308, 1e308), good)


def _sampling():
    yield from _float_field("sampling.temperature", -0.1, 100.1, (0.0, 1e-6, 100.0))
    yield from _float_field("sampling.top_p", 0.0, 1.1, (1e-9, 1.0))
    yield from _float_field("sampling.min_p", -0.1, 1.1, (0.0, 1.0))
    yield from _float_field("sampling.presence_penalty", -2.1, 2.1, (-2.0, 2.0))
    yield from _float_field("sampling.frequency_penalty", -2.1, 2.1, (-2.0, 2.0))
    yield from _float_field("sampling.repetition_penalty", 0.0, 2.1, (1e-6, 2.0))
    yield from _numbers("sampling.top_k", (-1, VOCABULARY + 1, MAX32, MIN32), (0, VOCABULARY))
    for value in (NAN, INFINITY, -INFINITY, DENORMAL, -100.1, 100.1):
        yield Case("generate", f"logit_bias {value}", {"sampling": {"logit_bias": {7: value}}},
                   field="sampling.logit_bias[7]")
    for token in (-1, VOCABULARY, MAX32, MIN32):
        yield Case("generate", f"logit_bias of token {token}",
                   {"sampling": {"logit_bias": {token: 1.0}}}, field="sampling.logit_bias")
    yield Case("generate", "logit_bias, one entry too many",
               {"sampling": {"logit_bias": {i: 1.0 for i in range(1025)}}},
               field="sampling.logit_bias")
    yield ok("generate", "logit_bias, all entries",
             {"sampling": {"logit_bias": {i: -100.0 for i in range(1024)}}})


def _stopping():
    yield from _numbers("n", (0, -1, 17, MAX32, MIN32), (1, 16))
    yield from _numbers("stopping.max_tokens", (0, -1, CONTEXT + 1, MAX32, MIN32), (1,))
    yield from _numbers("stopping.min_tokens", (-1, 2, CONTEXT + 1, MAX32, MIN32), (0, 1))
    yield Case("generate", "17 stop texts", {"stopping": {"stop": ["x"] * 17}},
               field="stopping.stop")
    yield Case("generate", "100,000 stop texts", {"stopping": {"stop": ["x"] * 100000}},
               field="stopping.stop")
    yield Case("generate", "a stop text of 257 bytes", {"stopping": {"stop": ["x", "y" * 257]}},
               field="stopping.stop[1]")
    yield Case("generate", "a stop text of 4 MiB", {"stopping": {"stop": ["y" * (4 << 20)]}},
               field="stopping.stop[0]")
    yield Case("generate", "an empty stop text", {"stopping": {"stop": [""]}},
               field="stopping.stop[0]")
    yield ok("generate", "16 stop texts of 256 bytes, NUL among them",
             {"stopping": {"stop": ["\0" * 256] * 16}})
    yield Case("generate", "65 stop token ids", {"stopping": {"stop_token_ids": [3] * 65}},
               field="stopping.stop_token_ids")
    for token in (-1, VOCABULARY, MAX32, MIN32):
        yield Case("generate", f"stop token {token}", {"stopping": {"stop_token_ids": [3, token]}},
                   field="stopping.stop_token_ids[1]")
    options = "logprob_options"
    for value in (-1, 21, MAX32, MIN32):
        yield Case("generate", f"top_logprobs = {value}",
                   {options: {"logprobs": True, "top_logprobs": value}},
                   field="logprob_options.top_logprobs")
    yield Case("generate", "top_logprobs alone", {options: {"top_logprobs": 1}},
               field="logprob_options.top_logprobs")
    yield ok("generate", "20 top_logprobs", {options: {"logprobs": True, "top_logprobs": 20}})


def _prompts():
    def ids(values):
        return {"prompt": {"token_ids": {"ids": values}}}
    too_long = {"code": "INVALID_ARGUMENT", "reason": "CONTEXT_TOO_LONG"}
    yield Case("run", "no prompt", {"prompt": None}, field="prompt")
    yield Case("run", "a prompt without content", {"prompt": {"text": None}}, field="prompt")
    yield Case("run", "no token ids", ids([]), field="prompt.token_ids")
    for token in (-1, VOCABULARY, MAX32, MIN32):
        yield Case("run", f"token {token}", ids([1, 2, token]), field="prompt.token_ids.ids[2]")
    yield ok("run", "the first and the last token", ids([0, VOCABULARY - 1]))
    yield ok("generate", "an empty text: the beginning of sequence alone", {"prompt": {"text": ""}})
    yield ok("generate", "the beginning of sequence alone", ids([1]))
    yield Case("score", "an empty text", {"prompt": {"text": ""}}, field="prompt")
    yield Case("score", "the beginning of sequence alone", ids([1]), field="prompt")
    yield ok("generate", "exactly the context", ids([5] * (CONTEXT - 1)))
    yield ok("score", "exactly the context", ids([5] * CONTEXT))
    yield Case("generate", "one token beyond the context", ids([5] * CONTEXT), field="prompt",
               **too_long)
    yield Case("generate", "max_tokens one beyond the context",
               {**ids([5] * (CONTEXT - 1)), "stopping": {"max_tokens": 2}}, field="prompt",
               **too_long)
    yield Case("run", "more ids than the context", ids([5] * (CONTEXT + 1)),
               field="prompt.token_ids", **too_long)
    yield Case("run", "2,000,000 ids", ids([5] * 2000000), field="prompt.token_ids", **too_long)
    yield Case("run", "a text beyond the context", {"prompt": {"text": "word " * 600}},
               field="prompt", **too_long)
    yield Case("run", "a text of 1 MiB", {"prompt": {"text": "x" * (1 << 20)}},
               field="prompt.text", **too_long)
    yield Case("run", "a text of more than 1 MiB", {"prompt": {"text": "x" * (1 << 20) + "x"}},
               field="prompt.text")
    yield ok("run", "NUL in a text", {"prompt": {"text": "a\0b"}})
    yield ok("run", "control and private characters", {"prompt": {"text": "\x1b[31m\ue000\ufffe"}})
    for name, text in {"not UTF-8": b"\xff\xfe", "half a character": b"ab\xc3",
                       "a surrogate": b"\xed\xa0\x80", "an overlong slash": b"\xc0\xaf"}.items():
        yield Case("run", f"a text that is {name}", wire(1, wire(1, text)),
                   reason="INVALID_MESSAGE")
        yield Case("tokenize", f"a text that is {name}", wire(1, text), reason="INVALID_MESSAGE")
    yield Case("generate", "a stop text that is not UTF-8", wire(4, wire(2, b"\xff")),
               reason="INVALID_MESSAGE")


def _lengths():
    """Of prompts that may be cut."""
    def ids(number, **more):
        return {"prompt": {"token_ids": {"ids": [5] * number}, **more}}
    keep, start, end = ({"truncation": kind} for kind in (1, 2, 3))
    for kind in (4, -1, MAX32, MIN32):
        yield Case("run", f"truncation {kind}", {"prompt": {"truncation": kind}},
                   field="prompt.truncation")
    for number in (0, -1, CONTEXT + 1, MAX32, MIN32):
        yield Case("run", f"truncate_prompt_tokens = {number}",
                   {"prompt": {**start, "truncate_prompt_tokens": number}},
                   field="prompt.truncate_prompt_tokens")
    yield Case("run", "truncate_prompt_tokens alone", {"prompt": {"truncate_prompt_tokens": 5}},
               field="prompt.truncate_prompt_tokens")
    yield Case("run", "a refused truncation", ids(8, **keep, truncate_prompt_tokens=7),
               field="prompt")
    yield Case("run", "nothing left to score or to compute",
               {"prompt": {"token_ids": {"ids": []}, **end}}, field="prompt.token_ids")
    yield Case("score", "one token left to score", ids(8, **end, truncate_prompt_tokens=1),
               field="prompt")
    yield Case("run", "more ids than may be cut", ids((1 << 20) + 1, **start),
               field="prompt.token_ids")
    yield ok("run", "a million ids cut at the start", ids(1 << 20, **start))
    yield ok("run", "ids cut at the end", ids(CONTEXT + 1, **end))


def _conversations():
    def said(*messages):
        return {"prompt": {"conversation": {"messages": [
            {"role": role, "content": content} for role, content in messages]}}}
    messages = "prompt.conversation.messages"
    user, assistant, system = 2, 3, 1
    yield ok("run", "a conversation", said((system, "x"), (user, "y"), (assistant, "z"),
                                           (user, "")))
    yield Case("run", "no messages", said(), field=messages)
    yield Case("run", "257 messages", said(*[(user, "x")] * 257), field=messages)
    yield Case("run", "an assistant's message last", said((user, "x"), (assistant, "y")),
               field=messages)
    for role in (0, 4, -1, MAX32, assistant):
        yield Case("run", f"role {role} first", said((role, "x"), (user, "y")),
                   field=messages + "[0].role")
    yield Case("run", "a system message in the middle", said((user, "x"), (system, "y")),
               field=messages + "[1].role")
    for tag in CHAT_TAGS:
        yield Case("run", f"{tag} in a message", said((user, f"x {tag} y")),
                   field=messages + "[0].content")
    yield ok("run", "names of control tokens in a message", said((user, "</s><s>")))
    yield Case("run", "a conversation of more than 1 MiB", said((user, "x" * (1 << 20) + "x")),
               field="prompt.conversation")
    yield Case("run", "a conversation beyond the context", said((user, "word " * 600)),
               reason="CONTEXT_TOO_LONG", field="prompt")


def _routing():
    weights = (NAN, INFINITY, -INFINITY, -1e-9, 1000.1, -1e308)
    for fields in ("generate", "score"):
        for top_n in (0, -1, 257, MAX32, MIN32):
            yield Case(fields, f"return_routing.top_n = {top_n}",
                       {"return_routing": {"top_n": top_n}}, field="return_routing.top_n")
        for weight in weights:
            yield Case(fields, f"return_routing.min_weight = {weight}",
                       {"return_routing": {"min_weight": weight}},
                       field="return_routing.min_weight")
        yield ok(fields, "all routing there may be",
                 {"return_routing": {"top_n": 256, "min_weight": 0.0}})
    yield Case("generate", "routing of too many tokens",
               {"return_routing": {"top_n": 256}, "n": 16, "stopping": {"max_tokens": 32}},
               field="return_routing.top_n")
    for top_n in (-1, 8193, MAX32, MIN32):
        yield Case("explain", f"top_n = {top_n}", {"top_n": top_n}, field="top_n")
    for weight in weights:
        yield Case("explain", f"min_weight = {weight}", {"min_weight": weight},
                   field="min_weight")
    for top_n in (0, 8192):
        yield ok("explain", f"top_n = {top_n}", {"top_n": top_n})
    yield ok("explain", "exactly the context", {"prompt": {"token_ids": {"ids": [5] * CONTEXT}}})
    yield ok("explain", "the beginning of sequence alone", {"prompt": {"text": ""}})


def _masks():
    def experts(**entry):
        return {"mask": {"experts": [{"router": 0}, entry]}}
    for router in (-1, ROUTERS, MAX32, MIN32):
        yield Case("run", f"router {router}", experts(router=router, ids=[1]),
                   field="mask.experts[1].router")
    for expert in (-1, SIDE * SIDE, MAX64, -MAX64 - 1):
        yield Case("run", f"expert {expert}", experts(ids=[3, expert]),
                   field="mask.experts[1].ids[1]")
    for index in (-1, SIDE, MAX32, MIN32):
        yield Case("run", f"row {index}", experts(rows=[0, 0, index]),
                   field="mask.experts[1].rows[2]")
        yield Case("run", f"column {index}", experts(columns=[index]),
                   field="mask.experts[1].columns[0]")
    for size in (1, SIDE * SIDE // 8 - 1, SIDE * SIDE // 8 + 1, 4 << 20):
        yield Case("run", f"a bitmap of {size} bytes", experts(bitmap=b"\xff" * size),
                   field="mask.experts[1].bitmap")
    yield ok("run", "a bitmap of every expert", experts(bitmap=b"\xff" * (SIDE * SIDE // 8)))
    yield ok("run", "as many ids as there may be", experts(ids=[1] * (1 << 20)))
    yield Case("run", "one id too many", experts(ids=[1] * (1 << 20), rows=[1]),
               field="mask.experts")
    yield Case("run", "five million rows", experts(rows=[1] * 5000000), field="mask.experts")
    yield Case("run", "1025 entries of experts", {"mask": {"experts": [{"router": 0}] * 1025}},
               field="mask.experts")
    yield Case("run", "33 policies", {"mask": {"policies": ["no-c"] * 33}}, field="mask.policies")
    yield ok("run", "32 times one policy", {"mask": {"policies": ["no-c"] * 32}})
    unknown = {"reason": "UNSUPPORTED_FIELD"}
    yield Case("run", "a field of the mask that is not known", wire(2, wire(77, 1)), field="mask",
               **unknown)
    yield Case("run", "the removed field 3 of the mask", wire(2, wire(3, b"x")), field="mask",
               **unknown)
    yield Case("run", "a field of experts that is not known", wire(2, wire(2, wire(9, b"x"))),
               field="mask.experts", **unknown)
    yield ok("run", "a field of the request that is not known", wire(1000, b"x"))


BAD_NAMES = [
    "", "../no-c", "/etc/passwd", "./no-c", "no-c/1", "no-c/../no-c", "no-c\\1", "file:no-c",
    "http://127.0.0.1:80/x", "s3://bucket/mask", "no-c.yaml", "No-C", "no c", "no-c\n", "no-c\0",
    "%2e%2e", "~", "*", "${HOME}", "nö", "x" * 64, "x" * 200, "x" * 1000000, "@1", "no-c@",
    "no-c@0", "no-c@-1", "no-c@1.5", "no-c@01", "no-c@99999999999999999999", "no-c@sha256:",
    "no-c@sha256:../../x", "no-c@latest", "no-c@1@1", "no-c@/1",
]
UNKNOWN_NAMES = ["nobody", "no-c@99", "no-c@2147483647", "no-c@sha256:" + "0" * 64]


def _names():
    for name in BAD_NAMES:
        shown = repr(name[:40])
        yield Case("run", f"policy {shown}", {"mask": {"policies": ["no-c", name]}},
                   field="mask.policies[1]")
        yield Case("policy", f"policy {shown}", {"policy": name}, field="policy")
    for name in UNKNOWN_NAMES:
        there = {"code": "NOT_FOUND", "reason": "POLICY_UNKNOWN"}
        yield Case("run", f"policy {name}", {"mask": {"policies": ["no-c", name]}},
                   field="mask.policies[1]", **there)
        yield Case("policy", f"policy {name}", {"policy": name}, field="policy", **there)
    for name in ("", "x" * 129, "x" * 1000000, "a b", "a\nb", "é", "\0"):
        yield Case("run", f"request_id {name[:20]!r}", {"request_id": name}, field="request_id")
    yield ok("run", "a request_id of 128 characters", {"request_id": "~" * 128})
    for name in ("", "../demo", "/models/demo", "DEMO", "demo\0", "x" * 128):
        yield Case("run", f"model {name[:20]!r}", {"model": name}, "NOT_FOUND", "MODEL_UNKNOWN",
                   "model")
    yield Case("run", "a model name of 1 MB", {"model": "x" * 1000000}, field="model")


def _others():
    yield ok("tokenize", "no text", {"text": ""})
    yield ok("tokenize", "NUL", {"text": "\0"})
    yield Case("tokenize", "more than 1 MiB", {"text": "x" * (1 << 20) + "x"}, field="text")
    yield ok("detokenize", "no ids", {"token_ids": []})
    for token in (-1, VOCABULARY, MAX32, MIN32):
        yield Case("detokenize", f"token {token}", {"token_ids": [1, token]}, field="token_ids[1]")
    yield Case("detokenize", "one id too many", {"token_ids": [1] * ((1 << 20) + 1)},
               field="token_ids")
    for size in (0, -1, 1001, MAX32, MIN32):
        yield Case("list", f"page_size {size}", {"page_size": size}, field="page_size")
    for token in ("x", "../x@1", "no-c@", "no-c@x", "@1", "no-c@99999999999", "\0", "x" * 1000000):
        yield Case("list", f"page_token {token[:20]!r}", {"page_token": token}, field="page_token")
    yield ok("list", "a page after the last", {"page_token": "zzz@1"})
    broken = {"reason": "INVALID_MESSAGE"}
    yield Case("any", "a tag without a value", b"\x0a", **broken)
    yield Case("any", "a length beyond the message", b"\x0a\x7f", **broken)
    yield Case("any", "a length of 2^63", b"\x0a" + varint(1 << 63), **broken)
    yield Case("any", "a varint that does not end", b"\x08" + b"\xff" * 11, **broken)
    yield Case("any", "field number 0", b"\x00\x00", **broken)
    yield Case("any", "an end of a group that never began", b"\x0c", **broken)
    yield Case("any", "groups in groups", b"\xfb\x7d" * 100000, **broken)
    yield Case("any", "a message of 8 MiB and a byte", wire(1000, b"x" * (8 << 20)),
               "RESOURCE_EXHAUSTED", "")


CASES = [*_sampling(), *_stopping(), *_prompts(), *_lengths(), *_conversations(), *_routing(),
         *_masks(), *_names(), *_others()]


def table():
    """(method's name, method, case) for every case and every method that takes it."""
    for name, method in METHODS.items():
        for case in CASES:
            if case.fields == "any" or case.fields in method.fields:
                yield name, method, case
