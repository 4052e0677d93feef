"""A gRPC client of single HTTP/2 frames (RFC 9113), for what no well-behaved client sends.

Blocking, one thread; headers go out as literals and come in undecoded.
"""

import socket
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
CANCEL = 8


def _length(value):
    """HPACK's integer with a prefix of seven bits."""
    if value < 127:
        return bytes([value])
    out, value = bytearray([127]), value - 127
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out + bytes([value]))


class RawConnection:
    """`window`: bytes that the server may send on a stream before credit is given."""

    def __init__(self, address, window=1 << 20, preface=True):
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        self._received = b""
        self._next = 1
        self._data = {}     # bytes of DATA by stream
        self._headers = {}  # undecoded header blocks by stream
        self._ended = set()
        if preface:
            settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
            self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self._frame(SETTINGS, 0, 0, settings))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    @staticmethod
    def _frame(kind, flags, stream, payload):
        header = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream)
        return header + payload

    def open(self, path, more=()):
        """Starts a call and returns its stream."""
        stream, self._next = self._next, self._next + 2
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path),
                   (":authority", "test"), ("te", "trailers"),
                   ("content-type", "application/grpc"), *more]
        block = b"".join(b"\0" + _length(len(name)) + name.encode() +
                         _length(len(text)) + text.encode() for name, text in headers)
        self.send(self._frame(HEADERS, END_HEADERS, stream, block))
        return stream

    def send_data(self, stream, data, end=False):
        self.send(self._frame(DATA, END_STREAM if end else 0, stream, data))

    def send_message(self, stream, message, frame_bytes=16384):
        """One gRPC message, and the end of the client's side."""
        data = b"\0" + struct.pack(">I", len(message)) + message
        for start in range(0, len(data), frame_bytes):
            end = start + frame_bytes
            self.send_data(stream, data[start:end], end >= len(data))

    def reset(self, stream):
        self.send(self._frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))

    def read(self, credit=0):
        """Takes one frame; gives `credit` bytes back for DATA. Raises OSError at the end."""
        while len(self._received) < 9 or len(self._received) < 9 + self._payload_bytes():
            self._fill()
        size = self._payload_bytes()
        kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
        payload, self._received = self._received[9:9 + size], self._received[9 + size:]
        if kind == SETTINGS and not flags & ACK:
            self.send(self._frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.send(self._frame(PING, ACK, 0, payload))
        elif kind == DATA:
            self._data[stream] = self._data.get(stream, b"") + payload
            if credit and payload:
                update = struct.pack(">I", len(payload))
                self.send(self._frame(WINDOW_UPDATE, 0, stream, update) +
                          self._frame(WINDOW_UPDATE, 0, 0, update))
        elif kind in (HEADERS, CONTINUATION):
            self._headers[stream] = self._headers.get(stream, b"") + payload
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self._ended.add(stream)

    def _payload_bytes(self):
        return int.from_bytes(self._received[:3], "big")

    def _fill(self):
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed by the server")
        self._received += data

    def ended(self, stream):
        return stream in self._ended

    def read_until_end(self, stream):
        while not self.ended(stream):
            self.read(credit=1)

    def read_until_closed(self):
        try:
            while True:
                self._fill()
        except OSError as error:
            assert not isinstance(error, TimeoutError)

    def messages(self, stream):
        """The gRPC messages that came whole."""
        data, found = self._data.get(stream, b""), []
        while len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[1:5], "big"):
            end = 5 + int.from_bytes(data[1:5], "big")
            found.append(data[5:end])
            data = data[end:]
        return found

    def grpc_status(self, stream):
        """The status in the trailers as text, if they came. The server's gRPC writes it plainly."""
        block = self._headers.get(stream, b"")
        at = block.find(b"grpc-status")
        if at < 0:
            return None
        size = block[at + 11]
        return block[at + 12:at + 12 + size].decode()
