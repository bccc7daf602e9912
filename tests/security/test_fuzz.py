"""A short run of `make fuzz` on the session's server: it survives, and every answer is clean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from reliability.fuzz import campaign, wire
from reliability.fuzz.answers import NEIGHBOUR, complaint
from reliability.fuzz.seeds import ENTRIES, outputs, seeds
from reliability.fuzz.watch import Watch
from reliability.gate_process import GateProcess
from tritonclient.grpc import service_pb2_grpc

from spine_server import EmbeddedTriton

LIMITS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@pytest.fixture(scope="module")
def own(server: EmbeddedTriton) -> Iterator[grpc.Channel]:
    """Triton's own port."""
    with grpc.insecure_channel(server.grpc_url, options=LIMITS) as channel:
        yield channel


@pytest.fixture(scope="module")
def good(own: grpc.Channel) -> dict[str, Any]:
    """A good request for every model."""
    return seeds(service_pb2_grpc.GRPCInferenceServiceStub(own))


@pytest.fixture(autouse=True)
def unharmed(own: grpc.Channel, good: dict[str, Any], server: EmbeddedTriton) -> Iterator[Watch]:
    """Nothing was found, no process died, and a good volume gets the labels it got before."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(own)
    before = outputs(stub.ModelInfer(good["segmentation"], timeout=120))
    assert server.pid is not None
    watch = Watch(server.pid)
    assert len(watch.stubs) >= 7
    yield watch
    watch.deaths("the whole test")
    assert watch.findings == []
    assert outputs(stub.ModelInfer(good["segmentation"], timeout=120)) == before


def test_spoilt_requests(own: grpc.Channel, good: dict[str, Any], unharmed: Watch) -> None:
    """The networks' own requests are left to `make fuzz`: two megabytes each."""
    small = {model: message for model, message in good.items() if model not in ("nnunet", "measure_cnn")}
    stub = service_pb2_grpc.GRPCInferenceServiceStub(own)
    campaign.structured(stub, small, unharmed, count=80, number=7)
    assert sum(unharmed.refused.values()) > 60
    assert len(unharmed.refused) >= 2


def test_damaged_bytes(own: grpc.Channel, good: dict[str, Any], unharmed: Watch) -> None:
    campaign.byte_level(own, good, unharmed, count=250, number=7)
    # Most do not parse, which gRPC itself answers with INTERNAL.
    assert unharmed.refused["INTERNAL"] > 100 and sum(unharmed.refused.values()) > 200, unharmed.refused


def test_misbehaving_connections(server: EmbeddedTriton, good: dict[str, Any], unharmed: Watch) -> None:
    host, _, port = server.grpc_url.rpartition(":")
    address = (host, int(port))
    body = good["segmentation"].SerializeToString()
    campaign.connections(address, lambda: wire.RawConnection(address), body, unharmed, number=7)
    held = wire.idle_connections(address, 200)
    for each in held:
        each.close()


def test_the_gate_refuses_cleanly_too(server: EmbeddedTriton, good: dict[str, Any], unharmed: Watch) -> None:
    entries = {model: good[model] for model in ENTRIES}
    with GateProcess(server.grpc_url, models=ENTRIES) as gate:
        with grpc.insecure_channel(f"127.0.0.1:{gate.port}", options=LIMITS) as channel:
            campaign.byte_level(channel, entries, unharmed, count=150, number=8, metadata=gate.metadata())
        assert unharmed.refused["PERMISSION_DENIED"] > 20
        address = ("127.0.0.1", gate.port)
        body = good["segmentation"].SerializeToString()
        campaign.connections(address, lambda: wire.RawConnection(address), body, unharmed, number=8)
        assert gate.process.poll() is None


class Refusal:
    """An error as gRPC hands it over."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self.code, self.details = lambda: code, lambda: details


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.INTERNAL, "[spineserve:internal] The stage failed."),
        (grpc.StatusCode.UNKNOWN, ""),
        (grpc.StatusCode.INVALID_ARGUMENT, "in /srv/app/model line 3"),
        (grpc.StatusCode.INVALID_ARGUMENT, "Traceback (most recent call last)"),
        (grpc.StatusCode.INVALID_ARGUMENT, f"request {NEIGHBOUR} is under way"),
        (grpc.StatusCode.INVALID_ARGUMENT, "at 0x7f3a99c0ffee"),
        (grpc.StatusCode.INVALID_ARGUMENT, "x" * 5000),
    ],
)
def test_the_judge_knows_what_is_not_clean(code: grpc.StatusCode, details: str) -> None:
    assert complaint(Refusal(code, details)) is not None
    assert complaint(Refusal(grpc.StatusCode.INVALID_ARGUMENT, "[spineserve:shape] Four sizes.")) is None
