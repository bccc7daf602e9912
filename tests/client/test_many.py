"""Many sources at once: nothing lost, nothing done twice, memory bounded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from fake_triton import FakeTriton, fails, good_answer, hangs, start

from spine_client import AsyncSpineClient, RetryPolicy, SpineClient, Volume
from spine_client.errors import InputError, RequestRejected

PATIENT = RetryPolicy(max_attempts=100, first_pause_s=0.05, max_pause_s=0.1)


def volumes(count: int) -> list[Volume]:
    """Volumes that differ in one voxel: its value is their number."""
    result = []
    for number in range(count):
        voxels = np.arange(120, dtype=np.int16).reshape(4, 6, 5)
        voxels[0, 0, 0] = 1000 + number
        result.append(Volume(voxels, np.eye(4)))
    return result


def numbered_answer(request, context):
    """The number that was sent comes back as the first label."""
    number = int(np.frombuffer(request.raw_input_contents[0], "<i2")[0]) - 1000
    time.sleep(0.02)
    answer = good_answer(request)
    labels = bytearray(answer.raw_output_contents[0])
    labels[0] = number
    answer.raw_output_contents[0] = bytes(labels)
    return answer


def test_every_source_has_one_outcome_with_its_own_result(serve) -> None:
    _, client = serve(numbered_answer)
    outcomes = list(client.analyze_many(volumes(12), max_concurrency=3))
    assert sorted(outcome.index for outcome in outcomes) == list(range(12))
    for outcome in outcomes:
        assert outcome.unwrap().labels[0, 0, 0] == outcome.index


def test_errors_do_not_stop_the_others(serve, tmp_path) -> None:
    refuse = fails(grpc.StatusCode.INVALID_ARGUMENT, "[spineserve:too_small] Too small.")

    def picky(request, context):
        number = int(np.frombuffer(request.raw_input_contents[0], "<i2")[0]) - 1000
        return refuse(request, context) if number == 1 else good_answer(request)

    _, client = serve(picky)
    sources = [*volumes(3), tmp_path / "none"]
    outcomes = {outcome.index: outcome for outcome in client.analyze_many(sources)}
    assert [outcomes[i].ok for i in range(4)] == [True, False, True, False]
    assert isinstance(outcomes[1].error, RequestRejected)
    assert isinstance(outcomes[3].error, InputError)
    assert outcomes[3].source == tmp_path / "none"
    with pytest.raises(RequestRejected):
        outcomes[1].unwrap()


def test_sources_are_taken_as_work_is_done(serve) -> None:
    _, client = serve()
    taken = 0

    def endless() -> Iterator[Volume]:
        nonlocal taken
        while True:
            taken += 1
            yield volumes(1)[0]

    outcomes = client.analyze_many(endless(), max_concurrency=2)
    for count in range(1, 8):
        next(outcomes)
        assert taken <= count + 2 * 2
    outcomes.close()


def test_leaving_early_cancels_what_is_under_way(serve) -> None:
    servicer, client = serve(good_answer, hangs())
    started = time.monotonic()
    for outcome in client.analyze_many(volumes(4), max_concurrency=2):
        assert outcome.ok
        break
    assert time.monotonic() - started < 5
    assert servicer.cancelled.wait(2)


def test_restart_of_the_server_loses_nothing_and_doubles_nothing() -> None:
    server, port = start(FakeTriton(numbered_answer))
    with SpineClient(f"127.0.0.1:{port}", retry=PATIENT, timeout_s=20) as client:
        outcomes = client.analyze_many(volumes(30), max_concurrency=3)
        seen = [next(outcomes)]
        server.stop(None).wait()
        again: list[grpc.Server] = []
        timer = threading.Timer(0.4, lambda: again.append(start(FakeTriton(numbered_answer), port=port)[0]))
        timer.start()
        seen += list(outcomes)
        timer.join()
    again[0].stop(None)
    assert sorted(outcome.index for outcome in seen) == list(range(30))
    assert all(outcome.unwrap().labels[0, 0, 0] == outcome.index for outcome in seen)


def test_progress_names_the_source(serve) -> None:
    _, client = serve()
    seen: list[tuple[int, str]] = []
    list(client.analyze_many(volumes(2), on_progress=lambda index, p: seen.append((index, p.stage))))
    assert {(0, "done"), (1, "done")} <= set(seen)


def test_with_options_shares_the_connection_and_changes_the_defaults(serve, volume: Volume) -> None:
    servicer, client = serve(fails(grpc.StatusCode.UNAVAILABLE, ""), good_answer)
    from spine_client.errors import DeadlineExceeded, ServerUnavailable

    with pytest.raises(ServerUnavailable):
        client.with_options(retry=RetryPolicy(max_attempts=1)).analyze(volume)
    assert client.analyze(volume).discs
    servicer.behaviours = (hangs(),)
    with pytest.raises(DeadlineExceeded):
        client.with_options(timeout_s=0.3).analyze(volume)


# --- the asynchronous client ---------------------------------------------------------------------


def run(client: SpineClient, servicer: FakeTriton, work, **settings):
    """Run `work(async client)` against the servicer."""

    async def main():
        async with AsyncSpineClient(
            servicer.url, **{"timeout_s": 10.0, "retry": PATIENT, **settings}
        ) as asynchronous:
            return await work(asynchronous)

    return asyncio.run(main())


def test_async_request_is_the_same_as_the_synchronous_one(serve, volume: Volume) -> None:
    servicer, client = serve()
    expected = client.analyze(volume, request_id="same", region="lumbar")
    result = run(client, servicer, lambda c: c.analyze(volume, request_id="same", region="lumbar"))
    first, second = servicer.requests
    for request in (first, second):
        request.parameters.clear()
    assert first == second
    assert result.to_dict() == expected.to_dict()
    np.testing.assert_array_equal(result.labels, expected.labels)


def test_async_retries_and_errors_are_the_same(serve, volume: Volume) -> None:
    unavailable = fails(grpc.StatusCode.UNAVAILABLE, "")
    servicer, client = serve(
        unavailable, good_answer, fails(grpc.StatusCode.INVALID_ARGUMENT, "[spineserve:x] No.")
    )
    assert run(client, servicer, lambda c: c.analyze(volume)).discs
    with pytest.raises(RequestRejected) as caught:
        run(client, servicer, lambda c: c.analyze(volume))
    assert (caught.value.code, caught.value.__cause__) == ("x", None)
    assert len(servicer.requests) == 3


def test_async_deadline(serve, volume: Volume) -> None:
    from spine_client.errors import DeadlineExceeded

    servicer, client = serve(hangs())
    with pytest.raises(DeadlineExceeded):
        run(client, servicer, lambda c: c.analyze(volume, timeout_s=0.3))
    assert servicer.cancelled.wait(2)


def test_cancelling_the_task_cancels_on_the_server(serve, volume: Volume) -> None:
    servicer, client = serve(hangs())

    async def cancel_soon(asynchronous: AsyncSpineClient) -> None:
        task = asyncio.create_task(asynchronous.analyze(volume))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(client, servicer, cancel_soon)
    assert servicer.cancelled.wait(2)


def test_async_many(serve) -> None:
    servicer, client = serve(numbered_answer)

    async def collect(asynchronous: AsyncSpineClient):
        return [outcome async for outcome in asynchronous.analyze_many(volumes(10), max_concurrency=3)]

    outcomes = run(client, servicer, collect)
    assert sorted(outcome.index for outcome in outcomes) == list(range(10))
    assert all(outcome.unwrap().labels[0, 0, 0] == outcome.index for outcome in outcomes)


def test_leaving_async_many_early_cancels_what_is_under_way(serve) -> None:
    servicer, client = serve(good_answer, hangs())

    async def first(asynchronous: AsyncSpineClient) -> None:
        outcomes = asynchronous.analyze_many(volumes(4), max_concurrency=2)
        async for outcome in outcomes:
            assert outcome.ok
            break
        await outcomes.aclose()

    run(client, servicer, first)
    assert servicer.cancelled.wait(2)


def test_async_health(serve) -> None:
    servicer, client = serve()
    health = run(client, servicer, lambda c: c.health(deep=True))
    assert health.ok
    assert health.canary_s is not None
    servicer.model_ready = False
    assert not run(client, servicer, lambda c: c.health()).ok
