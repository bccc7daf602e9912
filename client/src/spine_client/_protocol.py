"""Requests, answers and refusals: all that the synchronous and the asynchronous client share.

The two clients only wait; what goes over the wire, what comes back and whether to try again is decided here.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2 as pb

from spine_client import _contract as contract
from spine_client._refusals import error_from_status
from spine_client._report_parser import parse_report
from spine_client._tracing import InferenceSpan
from spine_client.config import RetryPolicy
from spine_client.errors import (
    DeadlineExceeded,
    InputError,
    ProtocolError,
    ServerUnavailable,
    SpineClientError,
)
from spine_client.options import AnalyzeOptions
from spine_client.progress import Progress
from spine_client.result import SpineResult
from spine_client.segmentation import SegmentationResult
from spine_client.volume import Volume

T = TypeVar("T")
_MAX_MESSAGE_BYTES = 2**31 - 2**16
"""gRPC and protobuf end at 2 GiB."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MODEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Deadline:
    """A point in time by which all attempts together must be over."""

    def __init__(self, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be positive, not {timeout_s}")
        self._started = time.monotonic()
        self._timeout_s = timeout_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def remaining_s(self) -> float:
        """Seconds left, negative when it is over."""
        return self._timeout_s - self.elapsed_s


@dataclass(frozen=True)
class Answer:
    """The tensors of an answer, checked against what was asked for."""

    contents: Mapping[str, bytes]
    labels: npt.NDArray[np.uint8]
    volume: Volume
    request_id: str
    elapsed_s: float


@dataclass(frozen=True)
class Entry(Generic[T]):
    """An entry model: its name, the outputs to ask for, and what its answer becomes."""

    model: str
    outputs: Mapping[str, str]
    read: Callable[[Answer], T]


class Call(Generic[T]):
    """One inference: its request, its deadline and its count of attempts."""

    def __init__(
        self,
        entry: Entry[T],
        volume: Volume,
        options: AnalyzeOptions,
        *,
        request_id: str,
        deadline: Deadline,
        retry: RetryPolicy,
        shares_memory: bool = False,
    ) -> None:
        self.request_id = request_id
        self.deadline = deadline
        self.shares_memory = shares_memory
        self.attempt = 0
        self.span = InferenceSpan(entry.model, request_id)
        self._entry = entry
        self._volume = volume
        self._retry = retry
        self._request = build_request(entry, volume, options, request_id, with_voxels=not shares_memory)
        if self.span.traceparent:
            self._request.parameters["traceparent"].string_param = self.span.traceparent

    @property
    def voxels(self) -> npt.NDArray[Any]:
        """(C, Z, Y, X), as they travel."""
        return wire_voxels(self._volume)

    @property
    def label_bytes(self) -> int:
        """Size of the label map that will come back."""
        return int(np.prod(self._volume.shape_zyx))

    def progress(self) -> Progress:
        """Where it stands while the server works."""
        return Progress("waiting", self.deadline.elapsed_s, max(self.attempt, 1))

    def next_request(self) -> pb.ModelInferRequest:
        """The request for the next attempt, with the time that is left as Triton's own timeout."""
        if self.deadline.remaining_s <= 0:
            raise DeadlineExceeded("the time was used up before the answer came", request_id=self.request_id)
        self.attempt += 1
        self._request.parameters["timeout"].int64_param = int(self.deadline.remaining_s * 1e6)
        return self._request

    def pause_after(self, error: SpineClientError) -> float:
        """Seconds to wait before the next attempt. Raises `error` where there should be none."""
        if self.deadline.remaining_s <= 0:
            raise error_from_status("DEADLINE_EXCEEDED", "", self.request_id)
        if not error.retryable or self.attempt >= self._retry.max_attempts:
            raise error
        pause_s = self._retry.pause_s(self.attempt)
        if isinstance(error, ServerUnavailable) and error.retry_after_s is not None:
            pause_s += error.retry_after_s  # and not all who were told the same at the same moment
        if pause_s >= self.deadline.remaining_s:
            raise error
        return pause_s

    def result(self, response: pb.ModelInferResponse) -> T:
        """The answer as a result. Raises `ProtocolError` if it does not fit the request."""
        try:
            contents, labels = read_tensors(response, self._entry.outputs, self._volume.shape_zyx)
            answer = Answer(contents, labels, self._volume, self.request_id, self.deadline.elapsed_s)
            return self._entry.read(answer)
        except ProtocolError as error:
            error.request_id = self.request_id
            raise


def spine_entry() -> Entry[SpineResult]:
    """Levels and measurements: a label map and a report."""

    def read(answer: Answer) -> SpineResult:
        report = parse_report(_without_length(answer.contents[contract.REPORT]))
        return SpineResult(answer.labels, answer.volume, report, answer.request_id, answer.elapsed_s)

    return Entry(contract.ENTRY_MODEL, contract.OUTPUT_DATATYPES, read)


def segmentation_entry(model: str) -> Entry[SegmentationResult]:
    """A plain network: a label map in its own numbers."""
    if not _MODEL_NAME.fullmatch(model):
        raise InputError("model", "a model's name is 1 to 128 letters, digits, dots, dashes or underscores")

    def read(answer: Answer) -> SegmentationResult:
        return SegmentationResult(answer.labels, answer.volume, model, answer.request_id, answer.elapsed_s)

    return Entry(model, contract.SEGMENTATION_OUTPUT_DATATYPES, read)


def leaving_request(request_id: str) -> pb.ModelInferRequest:
    """What tells the server that nobody waits for `request_id` any more; with ``""``, what asks its state.

    A cancelled gRPC call alone does not reach a stage that already works on the volume.
    """
    request = pb.ModelInferRequest(model_name=contract.ATTENDANT_MODEL)
    if request_id:
        request.inputs.add(name=contract.LEFT, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(_length_prefixed(request_id))
    return request


def read_state(response: pb.ModelInferResponse) -> dict[str, Any]:
    """The supervisor's state out of the attendant's answer; empty where there is none."""
    try:
        state = json.loads(_without_length(response.raw_output_contents[0]))
    except (ValueError, IndexError, ProtocolError):
        return {}
    return state if isinstance(state, dict) and state.get("supervised") is True else {}


def check_request_id(request_id: str | None) -> str:
    """`request_id` if it is usable, a random one if it is None."""
    if request_id is None:
        return uuid.uuid4().hex
    if not _REQUEST_ID.fullmatch(request_id):
        raise InputError("request_id", "a request id is 1 to 64 letters, digits, dots, dashes or underscores")
    return request_id


def wire_voxels(volume: Volume) -> npt.NDArray[Any]:
    """The voxels as they travel: (C, Z, Y, X), C-ordered, little-endian."""
    voxels = volume.voxels if volume.voxels.ndim == 4 else volume.voxels[np.newaxis]
    return np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("<"))


def build_request(
    entry: Entry[Any],
    volume: Volume,
    options: AnalyzeOptions,
    request_id: str,
    *,
    with_voxels: bool = True,
) -> pb.ModelInferRequest:
    """Voxels, geometry, hints and the id: nothing else leaves the machine.

    Without voxels, their content is left out: the request says elsewhere where it is.
    """
    voxels = wire_voxels(volume)
    if voxels.nbytes > _MAX_MESSAGE_BYTES:
        raise InputError("shape_limit", f"the volume has {voxels.nbytes / 2**30:.1f} GiB; 2 GiB is the limit")
    request = pb.ModelInferRequest(model_name=entry.model, id=request_id)
    _add(request, contract.VOLUME, [voxels.nbytes], voxels.tobytes() if with_voxels else None)
    _add(request, contract.SHAPE, [4], np.array(voxels.shape, dtype="<i8").tobytes())
    _add(request, contract.DTYPE, [1], _length_prefixed(voxels.dtype.name))
    _add(request, contract.AFFINE, [16], volume.affine.astype("<f8").tobytes())
    if text := options.to_json():
        _add(request, contract.OPTIONS, [1], _length_prefixed(text))
    for name in entry.outputs:
        request.outputs.add(name=name)
    return request


def read_tensors(
    response: pb.ModelInferResponse, expected: Mapping[str, str], shape_zyx: tuple[int, int, int]
) -> tuple[dict[str, bytes], npt.NDArray[np.uint8]]:
    """Contents of the `expected` outputs, and the label map on the grid that was sent."""
    outputs = {output.name: index for index, output in enumerate(response.outputs)}
    contents = {}
    for name, datatype in expected.items():
        if name not in outputs or response.outputs[outputs[name]].datatype != datatype:
            raise ProtocolError(f"the answer has no output {name} of type {datatype}")
        if outputs[name] >= len(response.raw_output_contents):
            raise ProtocolError(f"the answer has no content for output {name}")
        contents[name] = response.raw_output_contents[outputs[name]]
    shape = tuple(response.outputs[outputs[contract.LABELS]].shape)
    return contents, _labels(contents[contract.LABELS], shape, shape_zyx)


def _add(request: pb.ModelInferRequest, name: str, shape: list[int], content: bytes | None) -> None:
    request.inputs.add(name=name, datatype=contract.INPUT_DATATYPES[name], shape=shape)
    if content is not None:
        request.raw_input_contents.append(content)


def _length_prefixed(text: str) -> bytes:
    """One BYTES element: length as little-endian uint32, then the bytes."""
    content = text.encode()
    return len(content).to_bytes(4, "little") + content


def _without_length(content: bytes) -> bytes:
    if len(content) < 4 or int.from_bytes(content[:4], "little") != len(content) - 4:
        raise ProtocolError(f"the output {contract.REPORT} is not exactly one string")
    return content[4:]


def _labels(content: bytes, shape: tuple[int, ...], expected: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    if shape != expected or len(content) != int(np.prod(expected)):
        raise ProtocolError(f"the label map has shape {shape}, the volume sent {expected}")
    labels: npt.NDArray[Any] = np.frombuffer(content, dtype=np.uint8).reshape(expected)
    return labels
