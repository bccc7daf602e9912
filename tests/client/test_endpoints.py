"""Several servers behind one client: work is spread, and one that dies costs nothing."""

from __future__ import annotations

import asyncio
import socketserver
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from fake_triton import QUICK, FakeTriton, start

from spine_client import AsyncSpineClient, RetryPolicy, SpineClient, Tls, Volume
from spine_client._connection import channel_target
from spine_client.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from reliability.relay import Relay

Pair = list[tuple[FakeTriton, grpc.Server, str]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two servers and their addresses."""
    made = []
    for _ in range(2):
        servicer = FakeTriton()
        server, port = start(servicer)
        made.append((servicer, server, f"127.0.0.1:{port}"))
    yield made
    for _, server, _ in made:
        server.stop(None)


def ask_until_both_are_connected(client: SpineClient, volume: Volume, servicers: list[FakeTriton]) -> None:
    """gRPC takes turns among the servers it has reached; pytest's own limit ends a hang."""
    while not all(servicer.requests for servicer in servicers):
        client.analyze(volume)


def test_requests_go_round_robin_over_a_list(pair: Pair, volume: Volume) -> None:
    with SpineClient([url for *_, url in pair], retry=QUICK) as client:
        ask_until_both_are_connected(client, volume, [servicer for servicer, *_ in pair])
        before = [len(servicer.requests) for servicer, *_ in pair]
        for _ in range(12):
            client.analyze(volume)
    assert [len(servicer.requests) for servicer, *_ in pair] == [count + 6 for count in before]


def test_async_requests_go_round_robin_too(pair: Pair, volume: Volume) -> None:
    async def main() -> None:
        async with AsyncSpineClient([url for *_, url in pair], retry=QUICK) as client:
            while not all(servicer.requests for servicer, *_ in pair):  # pytest's own limit ends a hang
                await client.analyze(volume)

    asyncio.run(main())


def test_requests_move_to_the_server_that_is_left(pair: Pair, volume: Volume) -> None:
    with SpineClient([url for *_, url in pair], retry=QUICK) as client:
        client.analyze(volume)
        pair[0][1].stop(None).wait()
        before = len(pair[1][0].requests)
        for _ in range(4):
            client.analyze(volume)
    assert len(pair[1][0].requests) == before + 4


def test_a_slow_handshake_is_waited_for(volume: Volume) -> None:
    server, port = start(FakeTriton())
    relay = Relay(port)
    relay.delay_s = 0.3
    with SpineClient(f"127.0.0.1:{relay.port}", retry=RetryPolicy(max_attempts=1)) as client:
        client.analyze(volume)
    relay.close()
    server.stop(None)


class _Names(socketserver.BaseRequestHandler):
    """A name server for which every name has the addresses 127.0.0.1 and 127.0.0.2 (RFC 1035)."""

    def handle(self) -> None:
        query, reply = self.request
        end = query.index(0, 12) + 5
        is_address = query[end - 4 : end - 2] == b"\x00\x01"
        hosts = (b"\x7f\x00\x00\x01", b"\x7f\x00\x00\x02") if is_address else ()
        header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(hosts), 0, 0)
        records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + host for host in hosts)
        reply.sendto(header + query[12:end] + records, self.client_address)


def test_name_is_spread_over_all_addresses_behind_it(volume: Volume) -> None:
    first, second = FakeTriton(), FakeTriton()
    server, port = start(first)
    other = start(second, port=port, host="127.0.0.2")[0]
    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), _Names) as names:
        threading.Thread(target=names.serve_forever).start()
        url = f"dns://127.0.0.1:{names.server_address[1]}/spine.example:{port}"
        with SpineClient(url, retry=QUICK) as client:
            ask_until_both_are_connected(client, volume, [first, second])
            before = [len(first.requests), len(second.requests)]
            for _ in range(12):
                client.analyze(volume)
        names.shutdown()
    server.stop(None)
    other.stop(None)
    assert [len(first.requests), len(second.requests)] == [count + 6 for count in before]


def test_targets() -> None:
    assert channel_target(["10.0.0.1:8001", "10.0.0.2:8001"], None) == "ipv4:10.0.0.1:8001,10.0.0.2:8001"
    assert channel_target(["[::1]:1", "[fe80::2]:2"], None) == "ipv6:[::1]:1,[fe80::2]:2"
    assert channel_target(["spine:8001"], None) == "spine:8001"
    named = Tls(server_name="spine.example")
    assert channel_target(["10.0.0.1:1", "10.0.0.2:1"], named).startswith("ipv4:")


@pytest.mark.parametrize(
    "addresses", [["a:1", "b:1"], ["10.0.0.1:1", "[::1]:1"], ["10.0.0.1", "10.0.0.2"], []]
)
def test_lists_that_grpc_cannot_spread_are_refused(addresses: list[str]) -> None:
    with pytest.raises(InputError, match="dns:///"):
        SpineClient(addresses)


@pytest.mark.parametrize("url", [["10.0.0.1:1", "10.0.0.2:1"], "ipv4:10.0.0.1:1,10.0.0.2:1"])
def test_several_addresses_with_tls_need_the_name_in_the_certificate(url: str | list[str]) -> None:
    with pytest.raises(InputError, match="server_name"):
        SpineClient(url, tls=Tls())
