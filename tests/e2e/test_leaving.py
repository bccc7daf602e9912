"""A caller who has left costs the server one more patch at most, whichever way it left."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from spine_client import AnalyzeOptions, AsyncSpineClient, SpineClient
from spine_server import EmbeddedTriton
from spine_server.gate.server import GateOptions, GateServer
from spinecore import contract
from spinecore.geometry import Volume
from spinecore.phantom import PhantomConfig, make_phantom

from .conftest import Ask

MANY_PATCHES = AnalyzeOptions(step_size=0.1)
ONE_MORE = 2
"""The patch that runs when the caller leaves, and one whose call was on its way."""


@pytest.fixture(scope="module")
def volume() -> Volume:
    spacing, fov = (1.5, 1.5, 4.0), (380, 250, 90)
    phantom = make_phantom(
        PhantomConfig(seed=1, region="lumbar", spacing_mm=spacing, orientation="LPS", fov_mm=fov)
    )
    return Volume(phantom.image[np.newaxis], phantom.affine)


def patches_done(ask: Ask) -> int:
    answer = ask.stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name="nnunet"))
    return int(answer.model_stats[0].inference_count)


def wait_for_patches(ask: Ask, count: int) -> None:
    deadline = time.monotonic() + 120.0
    while patches_done(ask) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_it_stops(ask: Ask) -> None:
    """No more patches than were under way, once the caller has left."""
    at_leaving = patches_done(ask)
    time.sleep(4.0)
    assert patches_done(ask) - at_leaving <= ONE_MORE


def test_a_study_past_its_deadline_stops(ask: Ask, volume: Volume) -> None:
    request = contract.encode_volume(volume) | {"OPTIONS": np.array([b'{"step_size": 0.1}'], object)}
    message = ask.request("spine_mri", request, id="late")
    message.parameters["timeout"].int64_param = 8_000_000
    before = patches_done(ask)
    with pytest.raises(grpc.RpcError) as late:
        ask.stub.ModelInfer(message, timeout=60.0)  # gRPC alone would wait for the end
    assert late.value.code() == grpc.StatusCode.CANCELLED
    assert "[spineserve:cancelled]" in late.value.details()
    assert patches_done(ask) > before
    assert_it_stops(ask)


def test_a_study_whose_caller_interrupts_the_sdk_stops(
    ask: Ask, server: EmbeddedTriton, volume: Volume
) -> None:
    enough = patches_done(ask) + 2

    def leave(progress: object) -> None:
        if patches_done(ask) >= enough:
            raise KeyboardInterrupt

    with SpineClient(server.grpc_url) as client, pytest.raises(KeyboardInterrupt):
        client.analyze((volume.voxels, volume.affine), options=MANY_PATCHES, on_progress=leave)
    assert_it_stops(ask)


def test_a_cancelled_task_of_the_asynchronous_sdk_stops_its_study(
    ask: Ask, server: EmbeddedTriton, volume: Volume
) -> None:
    enough = patches_done(ask) + 2

    async def start_and_leave() -> None:
        async with AsyncSpineClient(server.grpc_url) as client:
            source = (volume.voxels, volume.affine)
            task = asyncio.ensure_future(client.analyze(source, options=MANY_PATCHES))
            await asyncio.to_thread(wait_for_patches, ask, enough)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.5)

    asyncio.run(start_and_leave())
    assert_it_stops(ask)


def test_a_study_whose_connection_breaks_behind_the_gate_stops(
    ask: Ask, server: EmbeddedTriton, volume: Volume
) -> None:
    with running_gate(server.grpc_url) as gate_url:
        enough = patches_done(ask) + 2
        client = SpineClient(gate_url)
        source = (volume.voxels, volume.affine)
        caller = threading.Thread(
            target=lambda: _ignore(lambda: client.analyze(source, options=MANY_PATCHES))
        )
        caller.start()
        wait_for_patches(ask, enough)
        client.close()  # without a word: the SDK cannot tell anybody any more
        time.sleep(0.5)
        assert_it_stops(ask)
        caller.join()


def analyze_many_patches(client: SpineClient, volume: Volume) -> None:
    client.analyze((volume.voxels, volume.affine), options=MANY_PATCHES)


def _ignore(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        return


class running_gate:  # noqa: N801 - reads as a function
    """A gate before `triton` in a thread of its own; its address."""

    def __init__(self, triton: str) -> None:
        options = GateOptions(listen="127.0.0.1:0", triton=triton, status_port=0, models=("spine_mri",))
        self._options, self._started = options, threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        gate = GateServer(self._options)
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await gate.start()
        self._port = gate.port
        self._started.set()
        await self._stop.wait()
        await gate.drain()

    def __enter__(self) -> str:
        self._thread.start()
        assert self._started.wait(10)
        return f"127.0.0.1:{self._port}"

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
