"""The questions of a health check, in order: both clients ask them, each in its own way."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from spine_client import _contract as contract
from spine_client.config import DEEP_HEALTH_TIMEOUT_S, HEALTH_TIMEOUT_S
from spine_client.errors import SpineClientError
from spine_client.health import Health


class HealthCheck:
    """Collects the answers. Iterate `questions()`, sending each answer; then read `state`."""

    def __init__(self) -> None:
        self.state = Health(live=False, ready=False, model_ready=False)

    def questions(self) -> Generator[tuple[str, Any], Any, None]:
        """Yields the name of a gRPC method and its request; takes the response."""
        live = yield "ServerLive", pb.ServerLiveRequest()
        self.state = replace(self.state, live=bool(live.live))
        ready = yield "ServerReady", pb.ServerReadyRequest()
        model = yield "ModelReady", pb.ModelReadyRequest(name=contract.ENTRY_MODEL)
        metadata = yield "ServerMetadata", pb.ServerMetadataRequest()
        usable = ready.ready and model.ready
        self.state = replace(
            self.state,
            ready=bool(ready.ready),
            model_ready=bool(model.ready),
            server_version=str(metadata.version),
            problem=None if usable else f"the server is up, but {contract.ENTRY_MODEL} is not ready",
        )

    def canary_took(self, seconds: float) -> None:
        """A small volume came back after `seconds`."""
        self.state = replace(self.state, canary_s=seconds)

    def failed(self, error: SpineClientError) -> None:
        """A question was not answered."""
        self.state = replace(self.state, problem=str(error))


def health_timeout_s(timeout_s: float | None, *, deep: bool) -> float:
    """`timeout_s`, or what suits the kind of check."""
    return timeout_s or (DEEP_HEALTH_TIMEOUT_S if deep else HEALTH_TIMEOUT_S)
