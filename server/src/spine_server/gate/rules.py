"""What a caller may ask for: the methods, and the models they name.

Everything not listed is refused: model control, shared memory, trace and log settings, statistics, streams.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from tritonclient.grpc import service_pb2

SERVICE = "inference.GRPCInferenceService"
INFER = f"/{SERVICE}/ModelInfer"

_HEALTH = frozenset({f"/{SERVICE}/ServerLive", f"/{SERVICE}/ServerReady", "/grpc.health.v1.Health/Check"})
_MODEL_NAME: dict[str, Callable[[bytes], str]] = {
    INFER: lambda raw: str(service_pb2.ModelInferRequest.FromString(raw).model_name),
    f"/{SERVICE}/ModelReady": lambda raw: str(service_pb2.ModelReadyRequest.FromString(raw).name),
    f"/{SERVICE}/ModelMetadata": lambda raw: str(service_pb2.ModelMetadataRequest.FromString(raw).name),
}
_WITHOUT_MODEL = _HEALTH | {f"/{SERVICE}/ServerMetadata"}


@dataclass(frozen=True)
class Refusal:
    """Why a request goes no further. `code` is a word for metrics and clients, `sentence` is for people."""

    code: str
    sentence: str


def needs_key(method: str) -> bool:
    """Whether `method` asks for an API key where keys are in use; health never does, so that probes work."""
    return method not in _HEALTH


def method_refusal(method: str) -> Refusal | None:
    """The reason why `method` (``/package.Service/Method``) is closed, or None."""
    if method in _WITHOUT_MODEL or method in _MODEL_NAME:
        return None
    return Refusal("method", "This method is not open to callers.")


def model_refusal(method: str, request: bytes, *, models: Collection[str]) -> Refusal | None:
    """The reason why this request's model is closed, or None.

    The request is parsed by the protobuf library itself, as Triton does, so that both see the same name even
    where a hostile sender writes the field twice.
    """
    if (name_of := _MODEL_NAME.get(method)) is None:
        return None
    try:
        name = name_of(request)
    except Exception:  # protobuf's DecodeError is not the same class in all its implementations
        return Refusal("malformed", "The request is no valid message of this method.")
    if name in models:
        return None
    return Refusal("model", f"Only these models are open to callers: {', '.join(sorted(models))}.")
