"""Volumes through shared memory: the same answers, and nothing left behind, whatever happens."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from fake_triton import FakeTriton, fails, hangs, in_shared_memory

from spine_client import AsyncSpineClient, RetryPolicy, SpineClient, Volume
from spine_client.errors import AccessRefused, DeadlineExceeded, InputError, RequestRejected, ServerFailed

MEMORY = Path("/dev/shm")
pytestmark = pytest.mark.skipif(not MEMORY.is_dir(), reason="this machine has no /dev/shm")
CLOSED = (grpc.StatusCode.UNAVAILABLE, "This protocol is restricted, expecting header 'admin-key'")


def ours() -> set[str]:
    """This process's regions in the machine's shared memory."""
    return {path.name for path in MEMORY.glob(f"spine-{os.getpid()}-*")}


@pytest.fixture
def sharing(serve: Callable[..., tuple[FakeTriton, SpineClient]]) -> Iterator[tuple[FakeTriton, SpineClient]]:
    """A server that takes shared memory, and a client that uses it; nothing may be left at the end."""
    before = ours()
    servicer, client = serve(shared_memory=True)
    servicer.behaviours = (in_shared_memory(servicer),)
    yield servicer, client
    servicer.holds_on = False
    client.close()
    assert ours() <= before
    assert servicer.regions == {}


def test_voxels_and_labels_travel_in_memory_and_the_answer_is_the_same(sharing, volume: Volume) -> None:
    servicer, client = sharing
    result = client.analyze(volume)
    np.testing.assert_array_equal(result.labels, volume.voxels % 251)
    assert result.discs[0].name == "L4/L5"
    assert volume.voxels.tobytes() not in servicer.wire[0]
    assert servicer.regions == {}


def test_region_has_no_name_any_more_while_the_server_works(sharing, volume: Volume) -> None:
    servicer, client = sharing
    seen: list[set[str]] = []
    work = in_shared_memory(servicer)

    def look(request, context):
        seen.append(ours() & set(servicer.registered))
        return work(request, context)

    servicer.behaviours = (look,)
    client.analyze(volume)
    assert (len(servicer.registered), seen) == (1, [set()])


def test_every_attempt_has_a_region_of_its_own(sharing, volume: Volume) -> None:
    servicer, client = sharing
    servicer.behaviours = (fails(grpc.StatusCode.UNAVAILABLE, ""), in_shared_memory(servicer))
    assert client.analyze(volume).discs
    assert len(set(servicer.registered)) == 2
    assert servicer.regions == {}


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (fails(grpc.StatusCode.INVALID_ARGUMENT, "[spineserve:too_small] Too small."), RequestRejected),
        (fails(grpc.StatusCode.INTERNAL, "broken"), ServerFailed),
        (hangs(), DeadlineExceeded),
    ],
)
def test_regions_are_unregistered_after_errors_and_deadlines(
    sharing, volume: Volume, behaviour, error: type[Exception]
) -> None:
    servicer, client = sharing
    servicer.behaviours = (behaviour,)
    with pytest.raises(error):
        client.analyze(volume, timeout_s=0.5)
    assert len(servicer.registered) == 1
    assert servicer.regions == {}


def test_regions_are_unregistered_after_ctrl_c(sharing, volume: Volume) -> None:
    servicer, client = sharing
    servicer.behaviours = (hangs(),)

    def interrupt(progress) -> None:
        if progress.elapsed_s > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.analyze(volume, on_progress=interrupt)
    assert servicer.cancelled.wait(2)
    assert (len(servicer.registered), servicer.regions) == (1, {})


def test_region_that_the_server_still_reads_is_unregistered_by_the_next_request(sharing, volume) -> None:
    servicer, client = sharing
    servicer.holds_on = True
    client.analyze(volume)
    assert len(servicer.regions) == 1
    servicer.holds_on = False
    client.analyze(volume)
    assert servicer.regions == {}


def test_closing_waits_until_the_server_lets_go(sharing, volume: Volume) -> None:
    servicer, client = sharing
    servicer.holds_on = True
    client.analyze(volume)
    threading.Timer(0.5, lambda: setattr(servicer, "holds_on", False)).start()
    client.close()
    assert servicer.regions == {}


def test_server_that_is_gone_holds_nothing_up(serve, volume: Volume) -> None:
    before = ours()
    servicer, client = serve(shared_memory=True, retry=RetryPolicy(max_attempts=1))
    servicer.behaviours = (in_shared_memory(servicer),)
    servicer.holds_on = True
    client.analyze(volume)
    servicer.server.stop(None).wait()
    client.close()
    assert ours() <= before


def test_server_that_keeps_shared_memory_closed_is_said_plainly(sharing, volume: Volume) -> None:
    servicer, client = sharing
    servicer.shared_memory_refusal = CLOSED
    with pytest.raises(AccessRefused, match="--open-shared-memory") as caught:
        client.analyze(volume, request_id="r-1")
    assert (caught.value.request_id, caught.value.__context__) == ("r-1", None)
    assert servicer.requests == []


def test_server_that_cannot_reach_the_memory_is_said_plainly(sharing, volume: Volume) -> None:
    servicer, client = sharing
    servicer.shared_memory_refusal = (grpc.StatusCode.INTERNAL, "Unable to open shared memory region: '/x'")
    with pytest.raises(InputError, match="another container") as caught:
        client.analyze(volume)
    assert caught.value.code == "shared_memory"


def test_full_shared_memory_is_an_error_and_not_a_crash(
    sharing, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(InputError, match="no room"):
        sharing[1].analyze(volume)


@pytest.mark.parametrize("url", ["spine.example:8001", "dns:///spine:8001", ["127.0.0.1:1", "127.0.0.1:2"]])
def test_servers_elsewhere_are_refused_at_once(url: str | list[str]) -> None:
    with pytest.raises(InputError, match="on this machine"):
        SpineClient(url, shared_memory=True)


def test_async_cancel_leaves_nothing_either(sharing, volume: Volume) -> None:
    servicer, _ = sharing
    servicer.behaviours = (in_shared_memory(servicer), hangs())

    async def main() -> np.ndarray:
        async with AsyncSpineClient(servicer.url, shared_memory=True) as client:
            result = await client.analyze(volume)
            task = asyncio.create_task(client.analyze(volume))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return result.labels

    np.testing.assert_array_equal(asyncio.run(main()), volume.voxels % 251)
    assert servicer.cancelled.wait(2)
    assert (len(servicer.registered), servicer.regions) == (2, {})
