"""Byte-level abuse: messages that are no protobuf, and connections that do not behave."""

from __future__ import annotations

import random
import socket
import ssl
import struct
import time
from collections.abc import Callable

import h2.config
import h2.connection
import h2.exceptions
from tritonclient.grpc import service_pb2 as pb

SERVICE = "inference.GRPCInferenceService"
METHODS = tuple(method.name for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods)
INFER = f"/{SERVICE}/ModelInfer"
_LENGTHS = (0, 1, 127, 128, 2**14, 2**21, 2**28, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def mutated(good: bytes, dice: random.Random) -> bytes:
    """`good` with a few random changes at byte level."""
    data = bytearray(good[: dice.choice((len(good), len(good), len(good), 400))])
    for _ in range(dice.choice((1, 1, 2, 6))):
        place = dice.randrange(len(data) + 1)
        way = dice.choice((0, 0, 0, 0, 0, 1, 2, 3, 4, 5))  # most often a bit, so that many still parse
        if way == 0 and data:
            data[place % len(data)] ^= 1 << dice.randrange(8)
        elif way == 1:
            data[place:place] = dice.randbytes(dice.randint(1, 16))
        elif way == 2:
            del data[place : place + dice.randint(1, 64)]
        elif way == 3:
            data[place:place] = _varint(dice.choice(_LENGTHS))
        elif way == 4:
            data += data[place : place + 200]
        else:
            data = data[:place]
    return bytes(data)


def random_message(dice: random.Random) -> bytes:
    """Bytes that never were a protobuf."""
    return dice.randbytes(dice.choice((0, 1, 5, 60, 1000, 100_000)))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


class RawConnection:
    """One HTTP/2 connection to a gRPC port, driven frame by frame.

    `context` makes it TLS; then HTTP/2 is negotiated as gRPC does.
    """

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(address, timeout=10)
        self.socket = plain if context is None else context.wrap_socket(plain, server_hostname="localhost")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what has been prepared."""
        self.socket.sendall(self.h2.data_to_send())

    def call(self, method: str = INFER, metadata: tuple[tuple[str, str], ...] = ()) -> int:
        """Open a call without a message; its stream."""
        stream = int(self.h2.get_next_available_stream_id())
        head = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "localhost")]
        self.h2.send_headers(
            stream, [*head, ("content-type", "application/grpc"), ("te", "trailers"), *metadata]
        )
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send bytes of a message."""
        self.h2.send_data(stream, data, end_stream=end)
        self.flush()

    def answer(self, timeout_s: float) -> dict[str, str]:
        """The first trailers or headers with a gRPC status, as a dict; empty if none came or it was cut."""
        self.socket.settimeout(0.2)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return {}
            if not data:
                return {}
            if (fields := self._status(data)) is not None:
                return fields
        return {}

    def _status(self, data: bytes) -> dict[str, str] | None:
        try:
            for event in self.h2.receive_data(data):
                fields = {_text(k): _text(v) for k, v in getattr(event, "headers", None) or []}
                if "grpc-status" in fields:
                    return fields
            self.flush()
        except (OSError, h2.exceptions.ProtocolError):  # the server has ended the stream or the connection
            return {}
        return None

    def close(self) -> None:
        """Cut the connection."""
        self.socket.close()


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


Connect = Callable[[], RawConnection]


def frame(message: bytes, *, length: int | None = None, compressed: int = 0) -> bytes:
    """A gRPC message with its five bytes in front; `length` may lie."""
    return struct.pack(">BI", compressed, len(message) if length is None else length) + message


def half_closed(connect: Connect, good: bytes) -> None:
    """End the stream in the middle of a message, without a message, and after half its head."""
    for body in (frame(good)[: len(good) // 2], b"", frame(good)[:3]):
        connection = connect()
        connection.send(connection.call(), body, end=True)
        connection.answer(2.0)
        connection.close()


def lying_lengths(connect: Connect, good: bytes) -> None:
    """Messages that are announced longer or shorter than they are, or as compressed though they are not."""
    for body in (
        frame(good, length=2**32 - 1), frame(good, length=2**31), frame(good, length=3),
        frame(good, compressed=1), frame(good, compressed=77), frame(good) + frame(good),
    ):  # fmt: skip
        connection = connect()
        connection.send(connection.call(), body[:16_000], end=True)
        connection.answer(2.0)
        connection.close()


def reset_streams(connect: Connect, good: bytes, count: int = 300) -> None:
    """Open calls and reset them at once, many times over one connection (HTTP/2 rapid reset)."""
    connection = connect()
    for _ in range(count):
        try:
            stream = connection.call()
            connection.send(stream, frame(good)[:100])
            connection.h2.reset_stream(stream)
            connection.flush()
        except (OSError, h2.exceptions.ProtocolError):  # the server may end such a connection
            break
    connection.close()


def cut_connections(connect: Connect, good: bytes, count: int = 50) -> None:
    """Drop the connection while a message is under way."""
    for _ in range(count):
        connection = connect()
        connection.send(connection.call(), frame(good)[: len(good) // 2])
        connection.close()


def slow_sender(connect: Connect, good: bytes, seconds: float) -> str:
    """A message that comes byte by byte; how it ended: "waiting" while the server still waits."""
    connection = connect()
    stream = connection.call()
    ends = time.monotonic() + seconds
    for byte in frame(good):
        connection.send(stream, bytes([byte]))
        if time.monotonic() > ends:
            break
        time.sleep(0.05)
    answer = connection.answer(0.5)
    connection.close()
    return answer.get("grpc-status", "waiting")


def no_http2(address: tuple[str, int], dice: random.Random, count: int = 100) -> None:
    """Bytes that are no HTTP/2, HTTP/1 requests, TLS hellos on a plain port."""
    greetings = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200, b"\0" * 9000,
    ]  # fmt: skip
    for number in range(count):
        raw = socket.create_connection(address, timeout=10)
        raw.sendall(greetings[number % 5] if number < 20 else dice.randbytes(dice.randint(1, 400)))
        raw.close()


def idle_connections(address: tuple[str, int], count: int) -> list[socket.socket]:
    """Open connections that say hello and then nothing; the caller closes them."""
    held = []
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    for _ in range(count):
        held.append(socket.create_connection(address, timeout=30))
        held[-1].sendall(hello)
    return held
