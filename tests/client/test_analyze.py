"""Requests, deadlines, retries and refusals against a server that misbehaves on purpose."""

from __future__ import annotations

import json
import threading
import time

import grpc
import numpy as np
import pytest
from fake_triton import (
    QUICK,
    FakeTriton,
    answer,
    fails,
    good_answer,
    hangs,
    input_tensors,
    report_dict,
    start,
)

from spine_client import AnalyzeOptions, RetryPolicy, SpineClient, Volume
from spine_client.errors import (
    AccessRefused,
    DeadlineExceeded,
    InputError,
    ProtocolError,
    RequestRejected,
    ServerFailed,
    ServerUnavailable,
    SpineClientError,
)

UNAVAILABLE = fails(grpc.StatusCode.UNAVAILABLE, "Server is exiting, /opt/secret/path")


def test_request_carries_the_contract(serve, volume: Volume) -> None:
    servicer, client = serve()
    client.analyze(volume, region="lumbar", options=AnalyzeOptions(step_size=0.5), request_id="my-id")
    request = servicer.requests[0]
    tensors = input_tensors(request)
    assert (request.model_name, request.id) == ("spine_mri", "my-id")
    assert tensors["VOLUME"] == volume.voxels.astype("<i2").tobytes()
    np.testing.assert_array_equal(np.frombuffer(tensors["SHAPE"], "<i8"), [1, 4, 6, 5])
    assert tensors["DTYPE"] == b"\x05\0\0\0int16"
    np.testing.assert_array_equal(np.frombuffer(tensors["AFFINE"], "<f8").reshape(4, 4), volume.affine)
    assert json.loads(tensors["OPTIONS"][4:]) == {"region": "lumbar", "step_size": 0.5}
    assert {(t.name, t.datatype, tuple(t.shape)) for t in request.inputs} == {
        ("VOLUME", "UINT8", (240,)),
        ("SHAPE", "INT64", (4,)),
        ("DTYPE", "BYTES", (1,)),
        ("AFFINE", "FP64", (16,)),
        ("OPTIONS", "BYTES", (1,)),
    }


def test_options_are_left_out_when_there_are_none(serve, volume: Volume) -> None:
    servicer, client = serve()
    client.analyze(volume)
    assert "OPTIONS" not in input_tensors(servicer.requests[0])


def test_result_is_on_the_grid_of_the_input(serve, volume: Volume) -> None:
    _, client = serve()
    result = client.analyze(volume)
    np.testing.assert_array_equal(result.labels, np.arange(120).reshape(4, 6, 5))
    assert result.labels.dtype == np.uint8
    np.testing.assert_array_equal(result.affine, volume.affine)
    assert result.discs[0].name == "L4/L5"
    assert len(result.request_id) == 32


def test_several_channels_and_other_types_arrive_as_they_are(serve) -> None:
    servicer, client = serve()
    voxels = np.random.default_rng(0).random((2, 4, 6, 5)).astype(np.float32)
    client.analyze((voxels, np.eye(4)))
    tensors = input_tensors(servicer.requests[0])
    assert tensors["VOLUME"] == voxels.tobytes()
    np.testing.assert_array_equal(np.frombuffer(tensors["SHAPE"], "<i8"), [2, 4, 6, 5])


def test_messages_above_the_grpc_default_of_4_mb_pass_both_ways(serve) -> None:
    _, client = serve()
    voxels = np.arange(6_000_000, dtype=np.int32).reshape(200, 200, 150) % 1000
    assert client.analyze((voxels, np.eye(4))).labels.shape == (200, 200, 150)


def test_deadline_ends_the_wait_and_reaches_the_server(serve, volume: Volume) -> None:
    servicer, client = serve(hangs())
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        client.analyze(volume, timeout_s=0.5, request_id="slow")
    assert time.monotonic() - started < 2
    assert caught.value.request_id == "slow"
    assert isinstance(caught.value, TimeoutError)
    assert servicer.cancelled.wait(2)
    assert 0 < servicer.requests[0].parameters["timeout"].int64_param <= 500_000


def test_unavailable_is_retried_with_the_same_request_id(serve, volume: Volume) -> None:
    servicer, client = serve(UNAVAILABLE, UNAVAILABLE, good_answer)
    assert client.analyze(volume).discs
    assert len({request.id for request in servicer.requests}) == 1
    assert len(servicer.requests) == 3
    timeouts = [request.parameters["timeout"].int64_param for request in servicer.requests]
    assert timeouts == sorted(timeouts, reverse=True)


def test_draining_server_is_retried(serve, volume: Volume) -> None:
    _, client = serve(fails(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'spine_mri'"), good_answer)
    assert client.analyze(volume).discs


def test_a_request_that_a_stopping_server_let_go_is_retried(serve, volume: Volume) -> None:
    """What is under way when a gRPC server stops ends as CANCELLED or UNAVAILABLE, whichever is first."""
    _, client = serve(fails(grpc.StatusCode.CANCELLED, "CANCELLED"), good_answer)
    assert client.analyze(volume).discs


def test_retries_are_counted(serve, volume: Volume) -> None:
    servicer, client = serve(UNAVAILABLE)
    with pytest.raises(ServerUnavailable) as caught:
        client.analyze(volume)
    assert len(servicer.requests) == QUICK.max_attempts
    assert caught.value.retryable


def test_retries_stay_inside_the_deadline(serve, volume: Volume) -> None:
    slow = RetryPolicy(max_attempts=1000, first_pause_s=0.3, max_pause_s=0.3)
    _, client = serve(UNAVAILABLE, retry=slow)
    started = time.monotonic()
    with pytest.raises((ServerUnavailable, DeadlineExceeded)):
        client.analyze(volume, timeout_s=0.6)
    assert time.monotonic() - started < 1.5


def test_large_volumes_are_retried_too(serve) -> None:
    servicer, client = serve(UNAVAILABLE, good_answer)
    voxels = np.arange(4_000_000, dtype=np.int16).reshape(100, 200, 200)
    client.analyze((voxels, np.eye(4)))
    assert len(servicer.requests) == 2


@pytest.mark.parametrize(
    ("status", "details", "expected"),
    [
        (
            "INVALID_ARGUMENT",
            "in ensemble 'spine_mri', [spineserve:constant_image] All equal.",
            RequestRejected,
        ),
        ("INTERNAL", "[spineserve:internal] A stage failed.", ServerFailed),
        ("INVALID_ARGUMENT", "unexpected shape for input", RequestRejected),
        ("RESOURCE_EXHAUSTED", "Received message larger than max", RequestRejected),
        ("UNKNOWN", "File /opt/x/model.py line 3 KeyError DOE^JANE", ServerFailed),
        ("UNAUTHENTICATED", "no token", AccessRefused),
        ("UNAVAILABLE", "This protocol is restricted, expecting header 'x'", AccessRefused),
    ],
)
def test_refusals_are_typed_not_retried_and_never_quote_triton(
    serve, volume: Volume, status: str, details: str, expected: type[SpineClientError]
) -> None:
    servicer, client = serve(fails(grpc.StatusCode[status], details))
    with pytest.raises(expected) as caught:
        client.analyze(volume, request_id="r-1")
    assert type(caught.value) is expected
    assert len(servicer.requests) == 1
    assert caught.value.request_id == "r-1"
    assert "(request r-1)" in str(caught.value)
    for leak in ("/opt", "ensemble", "DOE", "Stub", "header"):
        assert leak not in str(caught.value)
    assert caught.value.__cause__ is None


def test_code_and_sentence_of_the_server_reach_the_caller(serve, volume: Volume) -> None:
    details = "in ensemble 'spine_mri', [spineserve:too_small] Each side needs 4 voxels.\nTraceback /opt/x"
    _, client = serve(fails(grpc.StatusCode.INVALID_ARGUMENT, details))
    with pytest.raises(RequestRejected) as caught:
        client.analyze(volume)
    assert (caught.value.code, caught.value.message) == ("too_small", "Each side needs 4 voxels.")


def test_nothing_listening_is_unavailable(volume: Volume) -> None:
    server, port = start(FakeTriton())
    server.stop(None).wait()
    with SpineClient(f"127.0.0.1:{port}", retry=QUICK) as client, pytest.raises(ServerUnavailable):
        client.analyze(volume, timeout_s=5)


def test_server_that_comes_back_is_found_again(volume: Volume) -> None:
    first, port = start(FakeTriton())
    patient = RetryPolicy(max_attempts=50, first_pause_s=0.2, max_pause_s=0.2)
    with SpineClient(f"127.0.0.1:{port}", retry=patient) as client:
        client.analyze(volume, timeout_s=10)
        first.stop(None).wait()
        restarted = []
        timer = threading.Timer(0.5, lambda: restarted.append(start(FakeTriton(), port=port)))
        timer.start()
        assert client.analyze(volume, timeout_s=10).discs
        timer.join()
        restarted[0][0].stop(None)


@pytest.mark.parametrize(
    "response",
    [
        answer(b"\0" * 120, [4, 6, 5], {"schema_version": "9.0"}),
        answer(b"\0" * 119, [4, 6, 5], report_dict()),
        answer(b"\0" * 120, [5, 6, 4], report_dict()),
        answer(b"\0" * 120, [120], report_dict()),
        answer(b"", [], []),
    ],
)
def test_answers_that_do_not_fit_are_a_protocol_error(serve, volume: Volume, response) -> None:
    _, client = serve(lambda request, context: response)
    with pytest.raises(ProtocolError) as caught:
        client.analyze(volume, request_id="odd")
    assert caught.value.request_id == "odd"


def test_answer_without_outputs_is_a_protocol_error(serve, volume: Volume) -> None:
    _, client = serve(lambda request, context: type(good_answer(request))(model_name="spine_mri"))
    with pytest.raises(ProtocolError):
        client.analyze(volume)


def test_progress_is_told(serve, volume: Volume) -> None:
    _, client = serve(UNAVAILABLE, good_answer)
    seen = []
    client.analyze(volume, on_progress=seen.append)
    stages = [progress.stage for progress in seen]
    assert stages[0] == "reading" and stages[-1] == "done"
    assert "waiting" in stages and "retrying" in stages
    assert seen[-1].attempt == 2


def test_interrupt_cancels_on_the_server(serve, volume: Volume) -> None:
    servicer, client = serve(hangs())

    def interrupt(progress) -> None:
        if progress.stage == "waiting" and progress.elapsed_s > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.analyze(volume, on_progress=interrupt)
    assert servicer.cancelled.wait(2)


def test_closing_the_client_ends_a_waiting_request(serve, volume: Volume) -> None:
    _, client = serve(hangs())
    threading.Timer(0.3, client.close).start()
    with pytest.raises(SpineClientError):
        client.analyze(volume, timeout_s=8)


def test_several_threads_share_a_client(serve, volume: Volume) -> None:
    servicer, client = serve()
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(client.analyze(volume))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len({request.id for request in servicer.requests}) == 4


@pytest.mark.parametrize("request_id", ["", "has space", "x" * 65, "DOE^JANE"])
def test_unusable_request_ids_are_refused(serve, volume: Volume, request_id: str) -> None:
    servicer, client = serve()
    with pytest.raises(InputError):
        client.analyze(volume, request_id=request_id)
    assert servicer.requests == []


def test_unusable_options_are_refused() -> None:
    with pytest.raises(InputError):
        AnalyzeOptions(region="elbow")
    with pytest.raises(InputError):
        AnalyzeOptions(window_center=3.0)


def test_timeout_must_be_positive(serve, volume: Volume) -> None:
    _, client = serve()
    with pytest.raises(ValueError, match="positive"):
        client.analyze(volume, timeout_s=0)


def test_pause_grows_with_full_jitter() -> None:
    policy = RetryPolicy(first_pause_s=1.0, max_pause_s=3.0)
    for attempt, longest in [(1, 1.0), (2, 2.0), (3, 3.0), (9, 3.0)]:
        pauses = [policy.pause_s(attempt) for _ in range(200)]
        assert 0 <= min(pauses) < 0.3 * longest
        assert 0.7 * longest < max(pauses) <= longest
