"""A slow sender holds a place at the gate for so long and no longer; without a key none at all."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator

import pytest
from reliability.fuzz.seeds import request, volume_tensors
from reliability.fuzz.wire import RawConnection, frame
from reliability.gate_process import GateProcess

BODY = frame(request("spine_mri", volume_tensors()).SerializeToString())
DEADLINE_EXCEEDED, UNAUTHENTICATED = "4", "16"


def under_way(gate: GateProcess) -> float:
    """Studies that the gate counts as under way."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gate.status_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return float(text.partition("\nspineserve_gate_inflight_requests ")[2].split()[0])


@pytest.fixture
def gate() -> Iterator[GateProcess]:
    """A gate that waits two seconds for a request; nothing has to stand behind it."""
    with GateProcess("127.0.0.1:1", options=["--max-receive", "2"]) as running:
        yield running


def test_a_slow_sender_is_let_go(gate: GateProcess) -> None:
    connection = RawConnection(("127.0.0.1", gate.port))
    began = time.monotonic()
    connection.send(connection.call(metadata=gate.metadata()), BODY[: len(BODY) // 2])
    answer = connection.answer(20.0)
    assert answer["grpc-status"] == DEADLINE_EXCEEDED and "spineserve:slow" in answer["grpc-message"]
    assert time.monotonic() - began >= 2.0
    connection.close()
    until = time.monotonic() + 5  # the answer is out before the place is given back
    while under_way(gate) and time.monotonic() < until:
        time.sleep(0.02)
    assert under_way(gate) == 0


def test_a_slow_sender_without_a_key_is_refused_before_it_has_sent_anything(gate: GateProcess) -> None:
    connection = RawConnection(("127.0.0.1", gate.port))
    connection.call()
    assert connection.answer(20.0)["grpc-status"] == UNAUTHENTICATED
    connection.close()
    assert under_way(gate) == 0
