"""Readiness by doing: one small volume goes through the whole ensemble and must come back as a report.

Triton calls itself ready while a dead stage answers nothing but errors; only an inference tells.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from spine_server.errors import CanaryError
from spine_server.options import ServerOptions
from spine_server.ports import listeners
from spine_server.repository import ENTRY_MODEL, Entry

SHAPE_ZYX = (24, 32, 32)
SPACING_MM = 2.0
REQUEST_ID = "canary"
POLL_S = 0.1

DEFAULT_ENTRIES = (Entry(ENTRY_MODEL, channels=1, report=True),)

_Answer = tuple[triton.InferResult | None, InferenceServerException | None]


def canary_volume() -> NDArray[np.int16]:
    """A shaded ball, (1, Z, Y, X) int16: no spine in it, and one patch covers it."""
    axes = (np.linspace(-1.0, 1.0, count) for count in SHAPE_ZYX)
    z, y, x = np.meshgrid(*axes, indexing="ij")
    ball = np.clip(1.2 - z**2 - y**2 - x**2, 0.0, None) * (600.0 + 200.0 * np.sin(7.0 * y))
    voxels: NDArray[np.int16] = (40.0 + ball)[np.newaxis].astype(np.int16)
    return voxels


def canary_inputs(channels: int = 1) -> list[triton.InferInput]:
    """The canary as an entry model takes it, the same in every channel."""
    voxels = np.repeat(canary_volume(), channels, axis=0)
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    tensors: dict[str, tuple[NDArray[Any], str]] = {
        "VOLUME": (voxels.reshape(-1).view(np.uint8), "UINT8"),
        "SHAPE": (np.array(voxels.shape, np.int64), "INT64"),
        "DTYPE": (np.array([b"int16"], np.object_), "BYTES"),
        "AFFINE": (affine.reshape(-1), "FP64"),
    }
    inputs = []
    for name, (array, datatype) in tensors.items():
        tensor = triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def run_canary(
    url: str,
    *,
    timeout_s: float,
    check: Callable[[], None] = lambda: None,
    entries: Sequence[Entry] = DEFAULT_ENTRIES,
) -> float:
    """Send the canary through all `entries` at `url` and check what comes back; the seconds it took.

    `check` is called while waiting and raises when waiting has become useless.

    Raises
    ------
    CanaryError
        No answer within `timeout_s`, an error, or an answer that is not the canary's.
    """
    started = time.monotonic()
    with triton.InferenceServerClient(url) as client:
        for entry in entries:
            left = max(1.0, timeout_s - (time.monotonic() - started))
            _check(_answer(client, entry, left, check), entry)
    return time.monotonic() - started


def _answer(
    client: triton.InferenceServerClient, entry: Entry, timeout_s: float, check: Callable[[], None]
) -> triton.InferResult:
    answers: SimpleQueue[_Answer] = SimpleQueue()
    client.async_infer(
        entry.name,
        canary_inputs(entry.channels),
        callback=lambda result, error: answers.put((result, error)),
        request_id=REQUEST_ID,
        client_timeout=timeout_s,
    )
    answer, error = _wait_for(answers, check)
    if error is not None:
        raise CanaryError(f"The canary volume was not answered: {error.message()}")
    return answer


def _wait_for(answers: SimpleQueue[_Answer], check: Callable[[], None]) -> _Answer:
    while True:
        check()
        try:
            return answers.get(timeout=POLL_S)
        except Empty:
            continue


def _check(answer: triton.InferResult, entry: Entry) -> None:
    labels, report = answer.as_numpy("LABELS"), answer.as_numpy("REPORT")
    if labels is None or labels.shape != SHAPE_ZYX:
        came = None if labels is None else labels.shape
        raise CanaryError(f"The canary's label map should have shape {SHAPE_ZYX}, it has {came}.")
    if not entry.report:
        return
    try:
        json.loads(report.reshape(-1)[0])
    except (AttributeError, IndexError, ValueError):
        raise CanaryError("The canary's report is no JSON.") from None


def wait_until_live(url: str, *, deadline: float, check: Callable[[], None]) -> None:
    """Return when the server at `url` answers at all; it opens its ports only after every model has loaded.

    `check` is called between tries and raises when waiting has become useless; `deadline` is of
    `time.monotonic`.

    Raises
    ------
    CanaryError
        The deadline passed.
    """
    while time.monotonic() < deadline:
        check()
        with triton.InferenceServerClient(url) as client:
            try:
                if client.is_server_ready(client_timeout=1.0):
                    return
            except InferenceServerException:
                pass
        time.sleep(POLL_S)
    raise CanaryError("The models were not loaded within the start timeout.")


def wait_until_open(options: ServerOptions, *, deadline: float, check: Callable[[], None]) -> None:
    """Return when every service of `options` accepts connections: Triton opens HTTP and metrics after gRPC.

    `check` is called between tries and raises when waiting has become useless; `deadline` is of
    `time.monotonic`. CanaryError if it passes.
    """
    for listener in listeners(options):
        host = listener.host.strip("[]")  # an address that means all of the machine reaches it, too
        while True:
            check()
            try:
                socket.create_connection((host, listener.port), timeout=1.0).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise CanaryError(f"The {listener.service} port was not open in time.") from None
                time.sleep(POLL_S)
