"""A quiet call outlives pings: a client may ping every 10 seconds and is not hung up on."""

import socket
import struct
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server_process import Server

# More pings than a server that takes them for abuse lets pass (it allows a few).
PINGS = 8
SECONDS = 10


@pytest.fixture()
def server(tmp_path):
    process = Server(tmp_path)
    yield process
    assert process.stop() == 0


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Connection:
    """HTTP/2 by hand, so that the time of every ping is ours."""

    PING, GOAWAY, SETTINGS = 6, 7, 4
    ACK = 1

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(self.SETTINGS, 0, 0))
        self.buffer = b""

    def ping(self, number):
        self.socket.sendall(frame(self.PING, 0, 0, struct.pack(">Q", number)))

    def frames(self, seconds):
        """Frames that come within so many seconds: (kind, flags, payload)."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                return
            if not data:
                return
            self.buffer += data
            while len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) < 9 + length:
                    break
                yield self.buffer[3], self.buffer[4], self.buffer[9:9 + length]
                self.buffer = self.buffer[9 + length:]


def pings_until_goaway(server, interval, most):
    connection = Connection(server.address)
    for number in range(most):
        connection.ping(number)
        for kind, _, payload in connection.frames(interval):
            if kind == Connection.GOAWAY:
                return number + 1, payload
    return most, None


def test_pings_of_a_flood_end_the_connection(server):
    """So that the test below could fail: pings are counted, also on a connection without a call."""
    pings, goaway = pings_until_goaway(server, 0.2, 40)
    assert goaway is not None and b"too_many_pings" in goaway
    assert pings > 5


def test_pings_every_ten_seconds_are_welcome(server):
    """On a connection without a call, and during a call in which nothing happens."""
    options = [("grpc.keepalive_time_ms", SECONDS * 1000), ("grpc.keepalive_timeout_ms", 5000),
               ("grpc.keepalive_permit_without_calls", 1),
               ("grpc.http2.max_pings_without_data", 0)]
    with grpc.insecure_channel(server.address, options) as channel:
        states = []
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        channel.subscribe(states.append)
        pings, goaway = pings_until_goaway(server, SECONDS, PINGS)
        assert (pings, goaway) == (PINGS, None)
        assert watch.is_active()
        assert set(states) == {grpc.ChannelConnectivity.READY}
        watch.cancel()
