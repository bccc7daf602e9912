"""Requests, answers and refusals: all that the synchronous and the asynchronous client share.

The two clients only wait; what goes over the wire, what comes back and whether to try again is decided here.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2 as pb

from spine_client import _contract as contract
from spine_client._report_parser import parse_report
from spine_client.config import RetryPolicy
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
from spine_client.options import AnalyzeOptions
from spine_client.result import SpineResult
from spine_client.volume import Volume

_MAX_MESSAGE_BYTES = 2**31 - 2**16
"""gRPC and protobuf end at 2 GiB."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CODED = re.compile(r"\[spineserve:([a-z0-9_]+)\][ \t]*([^\r\n]{0,400})")
_RESTRICTED = "protocol is restricted"
"""Triton refuses a missing API key as UNAVAILABLE with these words."""


_ACCESS = (AccessRefused, "the server refused access; give it the API key or token it asks for")
_STATUS: dict[str, tuple[type[SpineClientError], str]] = {
    "UNAVAILABLE": (
        ServerUnavailable,
        "no server is ready under this address, or it is full; start it or try again later",
    ),
    "NOT_FOUND": (ServerUnavailable, f"the server is draining, or has no model {contract.ENTRY_MODEL}"),
    "DEADLINE_EXCEEDED": (
        DeadlineExceeded,
        "the answer did not come in time; raise timeout_s or send a smaller volume",
    ),
    "UNAUTHENTICATED": _ACCESS,
    "PERMISSION_DENIED": _ACCESS,
}
_REFUSALS = {
    "INVALID_ARGUMENT": "the server refused the request as malformed; align the versions of SDK and server",
    "OUT_OF_RANGE": "the server refused the request as malformed; align the versions of SDK and server",
    "RESOURCE_EXHAUSTED": "the request is larger than the server or a gateway before it lets through",
}


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


class Call:
    """One analysis: its request, its deadline and its count of attempts."""

    def __init__(
        self,
        volume: Volume,
        options: AnalyzeOptions,
        *,
        request_id: str,
        deadline: Deadline,
        retry: RetryPolicy,
    ) -> None:
        self.volume = volume
        self.request_id = request_id
        self.deadline = deadline
        self.attempt = 0
        self._retry = retry
        self._request = build_request(volume, options, request_id)

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
        if pause_s >= self.deadline.remaining_s:
            raise error
        return pause_s

    def result(self, response: pb.ModelInferResponse) -> SpineResult:
        """The answer as a result. Raises `ProtocolError` if it does not fit the request."""
        try:
            return parse_response(response, self.volume, self.request_id, self.deadline.elapsed_s)
        except ProtocolError as error:
            error.request_id = self.request_id
            raise


def check_request_id(request_id: str | None) -> str:
    """`request_id` if it is usable, a random one if it is None."""
    if request_id is None:
        return uuid.uuid4().hex
    if not _REQUEST_ID.fullmatch(request_id):
        raise InputError("request_id", "a request id is 1 to 64 letters, digits, dots, dashes or underscores")
    return request_id


def build_request(volume: Volume, options: AnalyzeOptions, request_id: str) -> pb.ModelInferRequest:
    """Voxels, geometry, hints and the id: nothing else leaves the machine."""
    voxels = volume.voxels if volume.voxels.ndim == 4 else volume.voxels[np.newaxis]
    if voxels.nbytes > _MAX_MESSAGE_BYTES:
        raise InputError("shape_limit", f"the volume has {voxels.nbytes / 2**30:.1f} GiB; 2 GiB is the limit")
    request = pb.ModelInferRequest(model_name=contract.ENTRY_MODEL, id=request_id)
    little_endian = np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("<"))
    _add(request, contract.VOLUME, [voxels.nbytes], little_endian.tobytes())
    _add(request, contract.SHAPE, [4], np.array(voxels.shape, dtype="<i8").tobytes())
    _add(request, contract.DTYPE, [1], _length_prefixed(voxels.dtype.name))
    _add(request, contract.AFFINE, [16], volume.affine.astype("<f8").tobytes())
    if text := options.to_json():
        _add(request, contract.OPTIONS, [1], _length_prefixed(text))
    for name in contract.OUTPUT_DATATYPES:
        request.outputs.add(name=name)
    return request


def parse_response(
    response: pb.ModelInferResponse, volume: Volume, request_id: str, elapsed_s: float
) -> SpineResult:
    """Check the tensors against the request and read the report."""
    outputs = {output.name: index for index, output in enumerate(response.outputs)}
    for name, datatype in contract.OUTPUT_DATATYPES.items():
        if name not in outputs or response.outputs[outputs[name]].datatype != datatype:
            raise ProtocolError(f"the answer has no output {name} of type {datatype}")
        if outputs[name] >= len(response.raw_output_contents):
            raise ProtocolError(f"the answer has no content for output {name}")
    labels = response.raw_output_contents[outputs[contract.LABELS]]
    shape = tuple(response.outputs[outputs[contract.LABELS]].shape)
    text = response.raw_output_contents[outputs[contract.REPORT]]
    return SpineResult(
        labels=_labels(labels, shape, volume.shape_zyx),
        volume=volume,
        report=parse_report(_without_length(text)),
        request_id=request_id,
        elapsed_s=elapsed_s,
    )


def error_from_status(status: str, details: str, request_id: str | None) -> SpineClientError:
    """The typed error for a gRPC status name and its text. The text is used only where it is SpineServe's."""
    coded = _CODED.search(details)
    if coded:
        return _coded_error(status, coded[1], coded[2].strip(), request_id)
    if status == "UNAVAILABLE" and _RESTRICTED in details:
        status = "PERMISSION_DENIED"
    if status in _REFUSALS:
        return RequestRejected(status.lower(), _REFUSALS[status], request_id=request_id)
    kind, message = _STATUS.get(
        status,
        (ServerFailed, f"the server failed on the request ({status}); give this id to whoever runs it"),
    )
    return kind(message, request_id=request_id)


def _coded_error(status: str, code: str, sentence: str, request_id: str | None) -> SpineClientError:
    if status == "UNAVAILABLE":
        return ServerUnavailable(sentence, request_id=request_id)
    if code in ("internal", "model", "out_of_memory"):
        return ServerFailed(sentence, request_id=request_id)
    if code in ("cancelled", "deadline"):
        return DeadlineExceeded(sentence, request_id=request_id)
    return RequestRejected(code, sentence, request_id=request_id)


def _add(request: pb.ModelInferRequest, name: str, shape: list[int], content: bytes) -> None:
    request.inputs.add(name=name, datatype=contract.INPUT_DATATYPES[name], shape=shape)
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
