"""A caller who has left costs the server one more patch at most, whichever way it left."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import psutil
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

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


def test_cancelled_studies_that_wait_are_dropped_before_work_starts(
    ask: Ask, server: EmbeddedTriton, volume: Volume
) -> None:
    """Two studies keep both processes of `segment`; the third waits, is cancelled, and costs no patch."""
    callers = [Caller(server.grpc_url, volume) for _ in range(2)]
    enough = patches_done(ask) + 4
    wait_for_patches(ask, enough)
    before = finished(ask, "preprocess")
    waiting = Caller(server.grpc_url, volume)
    wait_until(lambda: finished(ask, "preprocess") > before)
    time.sleep(0.5)
    waiting.leave()
    turned_away = finished(ask, "segment")
    for caller in callers:
        caller.leave()
    at_leaving = patches_done(ask)
    wait_until(lambda: finished(ask, "segment") >= turned_away + 3)
    time.sleep(2.0)
    assert patches_done(ask) - at_leaving <= 2 * ONE_MORE


def finished(ask: Ask, model: str) -> int:
    """Requests that a model has answered or refused."""
    answer = ask.stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=model))
    counted = answer.model_stats[0].inference_stats
    return int(counted.success.count + counted.fail.count)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Caller:
    """Sends a study of many patches from a thread of its own, until it `leave`s as Ctrl-C does."""

    def __init__(self, url: str, volume: Volume) -> None:
        self._left = threading.Event()
        self._thread = threading.Thread(target=lambda: _ignore(lambda: self._send(url, volume)))
        self._thread.start()

    def _send(self, url: str, volume: Volume) -> None:
        def look(progress: object) -> None:
            if self._left.is_set():
                raise InterruptedError

        with SpineClient(url) as client:
            client.analyze((volume.voxels, volume.affine), options=MANY_PATCHES, on_progress=look)

    def leave(self) -> None:
        self._left.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


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


_DRIVER = """
import numpy as np
from spine_client import AnalyzeOptions, SpineClient, Volume
from spine_server import EmbeddedTriton, ServerOptions
from spinecore.phantom import make_phantom
from spinecore.phantom.config import SMALL_LUMBAR

phantom = make_phantom(SMALL_LUMBAR)
with EmbeddedTriton(ServerOptions()) as server, SpineClient(server.grpc_url) as client:
    print(server.grpc_url, flush=True)
    while True:
        client.analyze(Volume(phantom.image[None], phantom.affine), options=AnalyzeOptions(step_size=0.3))
"""


def test_no_stage_outlives_a_driver_that_is_killed_amid_a_study() -> None:
    """The kernel then tells Triton to end, the caller is gone, and the network's stub was left waiting."""
    with driver() as process:
        family = amid_a_study(process)
    assert len(family) > 6
    assert_all_end(family)


def test_no_stage_outlives_a_triton_that_is_killed_amid_a_study() -> None:
    """A stage may just then wait for Triton with Python's lock in its hands."""
    with driver() as process:
        family = amid_a_study(process)
    next(each for each in family if each.name() == "tritonserver").kill()
    assert_all_end(family)


def test_no_stage_outlives_a_triton_that_is_killed_while_it_starts() -> None:
    """A stage that is still importing then has another parent from its first line on."""
    with driver() as process:
        wait_until(lambda: len(tritons(process)) > 2)
        server, *stages = tritons(process)
    server.kill()
    assert_all_end(stages)


@contextlib.contextmanager
def driver() -> Iterator[psutil.Popen]:
    """A process that sends studies to a Triton of its own, and is killed at the end."""
    process = psutil.Popen([sys.executable, "-c", _DRIVER], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def amid_a_study(process: psutil.Popen) -> list[psutil.Process]:
    """The driver's Triton and stages, just after another two patches were done."""
    assert process.stdout is not None
    with grpc.insecure_channel(process.stdout.readline().strip()) as channel:
        ask = Ask(service_pb2_grpc.GRPCInferenceServiceStub(channel))
        wait_for_patches(ask, patches_done(ask) + 2)
    return tritons(process)


def tritons(process: psutil.Process) -> list[psutil.Process]:
    """Triton and its stages among the descendants of `process`, in the order in which they started."""
    found = []
    for each in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # what Triton was looked for with ends at once
            if each.name().startswith("triton"):
                found.append(each)
    return sorted(found, key=lambda each: each.create_time())


def assert_all_end(family: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(family, timeout=60)
    for orphan in alive:
        orphan.kill()
    assert not alive
