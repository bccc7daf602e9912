"""What the Python models in `model_repository/` share, so that each of them is only decode → core → encode.

A model derives from `Stage` and writes `load` (once, from its files) and `handle` (one request). The base
takes care of reading tensors, of answering errors cleanly (no stack trace, path or value of the caller's data
reaches the client), of requests cancelled while they waited, and of one log line per request with its id and
duration.

Imported only inside Triton's Python stub, which provides `triton_python_backend_utils`.
"""

from __future__ import annotations

import json
import math
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from spine_server import wire_errors
from spine_server.callers import Callers
from spine_server.idle_memory import IdleMemory, keep_freed
from spine_server.lifeline import end_with_triton
from spine_server.modes import OVERLAY, Leaves
from spine_server.stage_metrics import StageMetrics
from spine_server.tracing import PARAMETER, Tracer
from spinecore import contract
from spinecore.errors import InputError, ModelError
from spinecore.geometry import Volume
from spinecore.network_spec import NetworkSpec

Array = NDArray[Any]

MEMORY_RETRY_S = 5.0
"""After this a study that took the memory has usually ended."""
NETWORK_RETRY_S = 2.0
"""After this the supervisor has usually brought a dead network back."""

_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class CancelledError(Exception):
    """The caller no longer waits for this request."""


class StageRequest:
    """One request: its id, its tensors, and whether anyone still waits for it."""

    def __init__(self, request: Any, callers: Callers | None = None) -> None:
        self._request = request
        self._callers = callers
        self.id = wire_errors.safe_request_id(request.request_id())
        self.traceparent = _traceparent(request.parameters())
        """W3C trace context of the caller, then of the stage that works on it; or empty."""

    @property
    def timeout_us(self) -> int:
        """Microseconds that the caller gave it from its arrival on; 0 where it set no limit."""
        return int(self._request.timeout())

    def tensor(self, name: str) -> Array:
        """The tensor `name`: the backend's own copy of it, which lasts as long as the request.

        Raises
        ------
        InputError
            The caller left it out.
        """
        array = self.optional(name)
        if array is None:
            raise InputError("missing_input", f"The input {name} is missing.")
        return array

    def optional(self, name: str) -> Array | None:
        """The tensor `name`, or None where the caller left it out."""
        tensor = pb_utils.get_input_tensor_by_name(self._request, name)
        if tensor is None:
            return None
        array: Array = tensor.as_numpy()
        return array

    def volume(self) -> Volume:
        """The caller's volume, checked; its voxels are those of the tensor."""
        tensors = (
            self.tensor(each.name)
            for each in (contract.VOLUME, contract.SHAPE, contract.DTYPE, contract.AFFINE)
        )
        return contract.decode_volume(*tensors)

    def options(self) -> contract.Options:
        """The caller's options, checked; the defaults where it sent none."""
        return contract.decode_options(self.optional(contract.OPTIONS.name))

    def stage_seconds(self) -> dict[str, float]:
        """What the stages before this one took, by stage; those that were not told are left out."""
        told = {each.name: self.optional(each.name) for each in contract.STAGE_SECONDS}
        seconds = {
            name.removesuffix("_SECONDS").lower(): float(s[0]) for name, s in told.items() if s is not None
        }
        if not all(0.0 <= each < math.inf for each in seconds.values()):
            raise InputError("seconds", "The stages' seconds must be finite and not negative.")
        return seconds

    def raise_if_cancelled(self) -> None:
        """Raise `CancelledError` when the caller has given up or its deadline has passed."""
        if self._request.is_cancelled():
            raise CancelledError
        if self._callers is not None and self._callers.gave_up(self.id):
            raise CancelledError


class Stage:
    """Base of the Python models: `load` once, then `handle` for each request."""

    first, last = False, False
    """Whether a volume's way through the server begins or ends here."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Triton's entry: remember where the files are, then `load`."""
        end_with_triton()
        keep_freed()
        self.idle_memory = IdleMemory()
        config = json.loads(args["model_config"])
        self.name: str = args["model_name"]
        self.repository = Path(args["model_repository"]).parent
        self.parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.metrics = StageMetrics(self.name)
        self.callers = Callers()
        self.tracer = Tracer(self.name)
        self._tells_seconds = any(each["name"] == contract.SECONDS.name for each in config["output"])
        self.load()

    def load(self) -> None:
        """Read what all requests need. `self.repository` and `self.parameters` are set."""

    def handle(self, request: StageRequest) -> Mapping[str, Array]:
        """Answer one request with its output tensors by name; SECONDS is added where the config has it."""
        raise NotImplementedError

    def model_file(self, model: str, file: str) -> Path:
        """A file in version 1 of another model of the repository, e.g. a network's description."""
        return self.repository / model / "1" / file

    def provenance(self, model: str, description: str) -> dict[str, str]:
        """Name, version, hash and training data of a network, from the description beside it."""
        content = json.loads(self.model_file(model, description).read_text(encoding="utf-8"))
        return {key: str(content[key]) for key in ("name", "version", "sha256", "trained_on")}

    def network_spec(self) -> NetworkSpec:
        """The description of the segmentation network that the parameter `network` names."""
        return NetworkSpec.load(self.model_file(self.parameters["network"], "network.json"))

    def leaves(self) -> Leaves:
        """The models beside the segmentation network, for the modes of a request."""
        folders = (self.repository, self.callers.folder / OVERLAY)
        return Leaves(self.parameters["network"], self.network_spec(), folders)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Triton's entry: answer each request, whatever happens to its neighbours."""
        with self.idle_memory.working():
            return [self._answer(StageRequest(request, self.callers)) for request in requests]

    def finalize(self) -> None:
        """Triton's exit: no thread of ours outlives the interpreter."""
        self.idle_memory.close()

    def _answer(self, request: StageRequest) -> Any:
        started = time.monotonic()
        with self.tracer.span(request.id, request.traceparent) as span:
            request.traceparent = span.traceparent
            response, outcome = self._outcome(request, started)
            span.ended(outcome)
        if self.last:
            self.callers.done(request.id)
        seconds = time.monotonic() - started
        self.metrics.answered(outcome, seconds)
        log_request(self.name, request.id, outcome, seconds)
        return response

    def _outcome(self, request: StageRequest, started: float) -> tuple[Any, str]:
        try:
            if self.first:
                self.callers.expects(request.id, request.timeout_us)
            request.raise_if_cancelled()
            outputs = dict(self.handle(request))
            if self._tells_seconds:
                outputs[contract.SECONDS.name] = np.array([time.monotonic() - started])
            tensors = [pb_utils.Tensor(name, array) for name, array in outputs.items()]
            return pb_utils.InferenceResponse(tensors), "ok"
        except Exception as error:
            return error_response(error, stage=self.name, request_id=request.id)


def error_response(error: Exception, *, stage: str, request_id: str) -> tuple[Any, str]:
    """The answer to a request that failed, and the error's code for the log."""
    code, status, sentence = _classify(error, stage)
    if code == wire_errors.INTERNAL:
        _log_unexpected(error, stage, request_id)
    failure = pb_utils.TritonError(wire_errors.wire_message(code, sentence), status)
    return pb_utils.InferenceResponse(output_tensors=[], error=failure), code


def _classify(error: Exception, stage: str) -> tuple[str, Any, str]:
    status = pb_utils.TritonError
    if isinstance(error, InputError):
        return error.code, status.INVALID_ARG, str(error)
    if isinstance(error, ModelError):
        return wire_errors.MODEL, status.INTERNAL, str(error)
    if isinstance(error, CancelledError):
        return (
            wire_errors.CANCELLED,
            status.CANCELLED,
            f"The request was cancelled before {stage} had finished.",
        )
    if isinstance(error, MemoryError):
        return (
            wire_errors.OUT_OF_MEMORY,
            status.UNAVAILABLE,
            wire_errors.with_retry_hint(f"The stage {stage} ran out of memory.", MEMORY_RETRY_S),
        )
    if isinstance(error, NetworkCallError):
        sentence = wire_errors.with_retry_hint(str(error), NETWORK_RETRY_S)
        return wire_errors.UNAVAILABLE, status.UNAVAILABLE, sentence
    sentence = f"The stage {stage} failed unexpectedly; the server's log tells more under the request's id."
    return wire_errors.INTERNAL, status.INTERNAL, sentence


class NetworkCallError(Exception):
    """A network that a stage called answered with an error: it has died, or is being loaded anew."""

    def __init__(self, network: str) -> None:
        super().__init__(f"The network {network} did not answer a patch.")


def call_network(
    network: str, inputs: Mapping[str, Array], outputs: Sequence[str], *, request: StageRequest
) -> dict[str, Array]:
    """Run another model of this server (BLS) and wait for its `outputs`.

    Raises
    ------
    NetworkCallError
        The network answered with an error, which is logged.
    CancelledError
        The caller gave up meanwhile.
    """
    call = pb_utils.InferenceRequest(
        model_name=network,
        request_id=request.id,
        inputs=[pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in inputs.items()],
        requested_output_names=list(outputs),
        parameters={PARAMETER: request.traceparent} if request.traceparent else {},
    )
    response = call.exec()
    if response.has_error():
        request.raise_if_cancelled()
        pb_utils.Logger.log_error(
            f"request={request.id or '-'} network={network} error={response.error().message()}"
        )
        raise NetworkCallError(network)
    return {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs}


def _traceparent(parameters: str) -> str:
    """The caller's trace context out of a request's parameters (JSON); empty where there is none."""
    try:
        value = json.loads(parameters or "{}").get(PARAMETER, "")
    except (ValueError, AttributeError):
        return ""
    return value if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else ""


def log_request(stage: str, request_id: str, outcome: str, seconds: float) -> None:
    """One line per request and stage. Never holds anything of the volume."""
    pb_utils.Logger.log_info(
        f"request={request_id or '-'} stage={stage} outcome={outcome} ms={1000.0 * seconds:.1f}"
    )


def log_warning(text: str) -> None:
    """A line for whoever runs the server, about its models rather than a request."""
    pb_utils.Logger.log_warn(text)


def _log_unexpected(error: Exception, stage: str, request_id: str) -> None:
    # The places and the kind of the error, not its text: that may quote the caller's data.
    places = " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in reversed(traceback.extract_tb(error.__traceback__))
    )
    pb_utils.Logger.log_error(
        f"request={request_id or '-'} stage={stage} unexpected={type(error).__name__} at {places}"
    )
