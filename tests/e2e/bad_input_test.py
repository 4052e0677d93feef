"""Every case of bad_input_cases.py against a real server while a healthy stream runs beside it.

Each answer has its code, reason and field and tells nothing of the server, the healthy stream has
the same bits as alone, and afterwards nothing is left behind.
"""

import collections
import re
import struct
import threading

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bad_input_cases import CHAT_TAGS, METHODS, table, wire
from server_process import Server, eventually
from raw_http2 import RawConnection

HEALTHY = {
    "prompt": {"text": "def get_queryset(self):\n    "},
    "mask": {"policies": ["no-c"]},
    "sampling": {"temperature": 0.9, "seed": 11},
    "stopping": {"max_tokens": 200},
    "logprob_options": {"logprobs": True, "top_logprobs": 3},
}
# What an error's text must not hold: paths, addresses of memory and network, names of files.
LEAKS = re.compile(r"/|\\|0x|\.(cc|h|py|so|yaml|json|safetensors|model)\b|\d+\.\d+\.\d+\.\d+|"
                   r"localhost|\w:\d{2,5}\b|\[::")
Answer = collections.namedtuple("Answer", "code text reason field bytes")


def connect(address):
    """A channel with a connection of its own; gRPC would share one among channels."""
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


class HealthyStream:
    """One stream after the other, each compared with the first, which ran alone."""

    def __init__(self, api, address):
        self._api = api
        self._request = api.generation.GenerateStreamRequest(request=HEALTHY)
        self._channel = connect(address)
        self._stub = api.generation_grpc.GenerationServiceStub(self._channel)
        self._stop = threading.Event()
        self.alone = self._run()
        self.rounds = 0
        self.problems = []
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def _run(self):
        text, tokens, logprobs, tops = "", [], b"", []
        for message in self._stub.GenerateStream(self._request):
            text += message.delta.text
            tokens += message.delta.token_ids
            logprobs += struct.pack(f"{len(message.delta.logprobs)}f", *message.delta.logprobs)
            tops += [top.SerializeToString(deterministic=True)
                     for top in message.delta.top_logprobs]
        return text, tokens, logprobs, tops, message.finish.finish_reason

    def _loop(self):
        while not self._stop.is_set():
            try:
                if self._run() != self.alone:
                    self.problems.append("other bits than alone")
            except grpc.RpcError as error:
                self.problems.append(f"{error.code()} {error.details()}")
            self.rounds += 1

    def stop(self):
        self._stop.set()
        self._thread.join()
        self._channel.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = Server(tmp_path_factory.mktemp("server"), "--chat-template", "llama2")
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="module")
def channel(server):
    with connect(server.address) as connection:
        yield connection


@pytest.fixture(scope="module")
def healthy(api, server):
    """Runs beside all tests. The last one stops it and looks at what it met."""
    stream = HealthyStream(api, server.address)
    assert len(stream.alone[1]) == len(stream.alone[3]) > 10
    yield stream
    stream.stop()


def calls_by_status(server):
    """Finished calls as {(method, code): count}."""
    counts = collections.Counter()
    for name, value in server.metrics().items():
        if name.startswith("monet_grpc_requests_total"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
            counts[labels["method"], labels["code"]] += int(value)
    return counts


def total(samples, name):
    return sum(value for sample, value in samples.items() if sample.startswith(name + "{"))


def idle(server):
    samples = server.metrics()
    return all(total(samples, name) == 0
               for name in ("monet_num_requests_running", "monet_num_requests_waiting",
                            "monet_kv_cache_usage_perc"))


def merged(good, change):
    """`good` with the change's fields in it; None removes one."""
    result = dict(good)
    for name, value in change.items():
        if value is None:
            del result[name]
        elif isinstance(value, dict) and name != "logit_bias":
            inner = result.get(name, {})
            # One field of a oneof takes the other's place.
            whole = "token_ids" in value or "conversation" in value
            result[name] = value if whole else merged(inner, value)
        else:
            result[name] = value
    return result


def message_type(api, name):
    for module in (api.generation, api.model, api.policy, api.expert):
        if hasattr(module, name):
            return getattr(module, name)
    raise AssertionError(name)


def request_bytes(api, method, change):
    fields = change if isinstance(change, dict) else {}
    message = message_type(api, method.request)(**merged(method.good, fields))
    data = message.SerializeToString()
    if isinstance(change, bytes):
        data += change
    # Field 1 of a wrapper is the request.
    return wire(1, data) if method.wrapper else data


def call(channel, method, data, **more):
    """Sends bytes and returns the answer with what its details say."""
    try:
        if method.streams:
            messages = channel.unary_stream(method.path)(data, **more)
            return Answer("OK", "", "", "", b"".join(messages))
        return Answer("OK", "", "", "", channel.unary_unary(method.path)(data, **more))
    except grpc.RpcError as error:
        reason = field = ""
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                assert info.domain == "monet"
                reason = info.reason
            elif detail.Unpack(bad):
                violation, = bad.field_violations
                assert violation.description == error.details()
                field = violation.field
        return Answer(error.code().name, error.details(), reason, field, b"")


def strings_of(value):
    """Every text in a change: what an error may show of the request itself."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings_of(inner)
    elif isinstance(value, list):
        for inner in value[:100]:
            yield from strings_of(inner)


def leaks(text, change):
    for own in sorted(strings_of(change), key=len, reverse=True):
        shown = "".join(c if " " <= c < "\x7f" else "?" * len(c.encode()) for c in own)
        if shown:
            text = text.replace(f'"{shown[:64]}', '"').replace(shown, "")
    for tag in CHAT_TAGS:
        text = text.replace(f"holds {tag},", "")
    return LEAKS.search(text)


def test_every_case_has_its_answer(api, server, channel, healthy):
    before = calls_by_status(server)
    expected = collections.Counter()
    wrong = []
    for name, method, case in table():
        answer = call(channel, method, request_bytes(api, method, case.change))
        if (answer.code, answer.reason, answer.field) != (case.code, case.reason, case.field):
            wrong.append(f"{name}: {case.name}: expected {case.code} {case.reason} {case.field}, "
                         f"was {answer.code} {answer.reason} {answer.field} {answer.text[:200]}")
        if leaks(answer.text, case.change) or len(answer.text) > 400:
            wrong.append(f"{name}: {case.name}: says too much: {answer.text[:500]}")
        if answer.reason:  # else it was answered by gRPC and never was a call of the server's
            expected[method.path.removeprefix("/monet.v1."), answer.code] += 1
    assert not wrong, "\n".join(wrong)
    assert sum(expected.values()) > 400
    counted = calls_by_status(server) - before
    assert {k: v for k, v in counted.items() if k[1] != "OK"} == expected


def test_check_for_leaks_finds_leaks():
    for text in ("cannot open /srv/model", "at 0x7f001122", "in policy.cc", "no-c/1.yaml is broken",
                 "connect 10.0.0.1", "localhost", "failed: host:50051"):
        assert leaks(text, {}), text
    assert not leaks('mask.policies[0] is "../x", expected NAME', {"policy": "../x"})
    assert leaks('mask.policies[0] is "../x" in /srv/policies', {"policy": "../x"})


def experts(**entry):
    return {"mask": {"experts": [entry]}}


@pytest.mark.parametrize("one, other", [
    (experts(ids=[3, 700, 65535]), experts(ids=[65535, 3, 700, 3, 3, 65535])),
    (experts(ids=[3, 700]), {"mask": {"experts": [{"ids": [700]}, {"ids": [3]}, {"ids": [3]}]}}),
    (experts(rows=[1, 2]), experts(rows=[2, 1, 2], ids=[256, 257])),
    (experts(columns=[0]), experts(ids=[row * 256 for row in range(255, -1, -1)])),
    (experts(ids=[9]), experts(bitmap=b"\0\x02" + b"\0" * 8190)),
    ({"mask": {"policies": ["no-c", "no-python"]}},
     {"mask": {"policies": ["no-python", "no-c", "no-python@1"]}}),
])
def test_order_and_duplicates_do_not_matter(api, channel, one, other):
    answers = []
    for change in (one, other):
        answer = call(channel, METHODS["Score"], request_bytes(api, METHODS["Score"], change))
        assert answer.code == "OK", answer
        response = api.generation.ScoreResponse.FromString(answer.bytes)
        answers.append((response.header.mask.digest, response.header.mask.experts_removed,
                        list(response.logprobs), response.removed_weight_share))
    assert answers[0] == answers[1]
    assert answers[0][1] > 0


@pytest.mark.parametrize("metadata", [
    [("x-key", "v" * (20 << 10))],
    [(f"x-key-{i}", "v") for i in range(2000)],
    [("x-key", "v" * 100)] * 500,
    [("k" * (20 << 10), "v")],
])
def test_metadata_is_bounded(api, server, healthy, metadata):
    """gRPC refuses it, and may end the connection too, which is nobody else's."""
    for method in METHODS.values():
        with connect(server.address) as own:
            answer = call(own, method, request_bytes(api, method, {}), metadata=metadata)
        assert answer.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"), answer
        assert answer.reason == ""
        assert not leaks(answer.text, {})


@pytest.mark.parametrize("path", [
    "/monet.v1.GenerationService/Nothing", "/monet.v1.Nothing/Generate", "/", "//", "/../../etc",
    "/monet.v1.GenerationService/generate", "/monet.v1.GenerationService/Generate/",
    "/" + "x" * 4000,
])
def test_unknown_methods(channel, path):
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(path)(b"")
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert not leaks(error.value.details(), {})


def many_tokens(api, name="GenerateStream", tokens=480):
    return request_bytes(api, METHODS[name], {"stopping": {"max_tokens": tokens,
                                                           "ignore_eos": True}})


@pytest.mark.parametrize("name", ["Generate", "GenerateStream"])
@pytest.mark.parametrize("timeout", ["1n", "60m"])
def test_expired_deadline_is_deadline_exceeded(api, server, healthy, name, timeout):
    """By a client that has no clock of its own: what ends the call is the server's."""
    path = METHODS[name].path
    key = (path.removeprefix("/monet.v1."), "DEADLINE_EXCEEDED")
    before = calls_by_status(server)[key]
    with RawConnection(server.address) as raw:
        stream = raw.open(path, [("grpc-timeout", timeout)])
        raw.send_message(stream, many_tokens(api, name))
        raw.read_until_end(stream)
        assert raw.grpc_status(stream) in ("4", None)  # None: the stream was reset instead
        for message in raw.messages(stream):
            response = api.generation.GenerateStreamResponse.FromString(message)
            assert not response.HasField("finish")
    if timeout != "1n":  # an expired call may end before it reaches the service
        assert eventually(lambda: calls_by_status(server)[key] == before + 1, 20)


def test_tiny_data_frames(api, server, healthy):
    """A message of which every byte comes in a frame of its own is a message."""
    with RawConnection(server.address) as raw:
        stream = raw.open(METHODS["Score"].path)
        raw.send_message(stream, request_bytes(api, METHODS["Score"], {}), frame_bytes=1)
        raw.read_until_end(stream)
        message, = raw.messages(stream)
        assert len(api.generation.ScoreResponse.FromString(message).logprobs) > 0
        # Ten thousand empty ones before it end the connection or the wait, nothing else.
        stream = raw.open(METHODS["Score"].path)
        for _ in range(10000):
            raw.send_data(stream, b"")
        raw.send_message(stream, request_bytes(api, METHODS["Score"], {}))
        raw.read_until_end(stream)


def test_rapid_resets(api, server, healthy):
    data = many_tokens(api)
    for _ in range(3):
        with RawConnection(server.address) as raw:
            try:
                for _ in range(1000):
                    stream = raw.open(METHODS["GenerateStream"].path)
                    raw.send_message(stream, data)
                    raw.reset(stream)
            except OSError:  # the server may end such a connection
                pass
    # They leave the queue when the server comes to them.
    assert eventually(lambda: total(server.metrics(), "monet_num_requests_waiting") == 0, 30)


def test_slow_readers(api, server, healthy):
    """Readers that never take a byte, and one that takes five at a time."""
    data = many_tokens(api)
    with RawConnection(server.address, window=0) as stalled:
        for _ in range(12):
            stalled.send_message(stalled.open(METHODS["GenerateStream"].path), data)
        with RawConnection(server.address, window=5) as slow:
            stream = slow.open(METHODS["GenerateStream"].path)
            slow.send_message(stream, many_tokens(api, tokens=8))
            while not slow.ended(stream):
                slow.read(credit=5)
            assert slow.grpc_status(stream) == "0"
            last = api.generation.GenerateStreamResponse.FromString(slow.messages(stream)[-1])
            assert last.finish.finish_reason == api.generation.FINISH_REASON_LENGTH
        rounds = healthy.rounds
        assert eventually(lambda: healthy.rounds > rounds + 1, 20)


def test_bytes_that_are_not_http2(server, healthy):
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 1000, b"\xff" * 100000,
                 b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000):
        with RawConnection(server.address, preface=False) as raw:
            raw.send(data)
            raw.read_until_closed()


def test_nothing_is_left_behind(api, server, channel, healthy):
    """Runs last: the healthy stream had the same bits every time, and the server is as it was."""
    rounds = healthy.rounds
    # One that began after all of the above.
    assert eventually(lambda: healthy.rounds > rounds + 1, 20)
    healthy.stop()
    assert healthy.problems == []
    assert healthy.rounds > 5
    assert eventually(lambda: idle(server), 20), server.metrics()
    answer = call(channel, METHODS["Generate"], request_bytes(api, METHODS["Generate"], {}))
    assert answer.code == "OK"
