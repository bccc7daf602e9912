"""What the two clients have in common: their settings, and the steps that each method takes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from spine_client import _steps as steps
from spine_client._connection import channel_credentials, channel_options, channel_target
from spine_client._contract import ENTRY_MODEL
from spine_client._protocol import Call, Deadline, Entry, check_request_id, segmentation_entry, spine_entry
from spine_client._shared_memory import CLOSING_PATIENCE_S, Leftovers, require_same_host
from spine_client.config import (
    DEEP_HEALTH_TIMEOUT_S,
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    HEALTH_TIMEOUT_S,
    Access,
    RetryPolicy,
    Tls,
)
from spine_client.health import Health, canary_volume
from spine_client.options import AnalyzeOptions
from spine_client.progress import Progress
from spine_client.sources import Source, load

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
ProgressCallback = Callable[[Progress], None]


class ClientBase:
    """Settings of a client, and what it does, as steps for it to take."""

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        tls: Tls | None = None,
        access: Access | None = None,
        shared_memory: bool = False,
    ) -> None:
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()
        self._access = access or Access()
        self._target = channel_target(url, tls)
        self._credentials = channel_credentials(tls, access)
        self._channel_options = channel_options(self._target, tls)
        self._shares_memory = shared_memory
        self._regions: Leftovers = []
        if shared_memory:
            require_same_host(self._target)
        self._open()

    def _open(self) -> None:
        """Make what the requests go through."""
        raise NotImplementedError

    def with_options(self, *, timeout_s: float | None = None, retry: RetryPolicy | None = None) -> Self:
        """The same connection with another default deadline or retry policy; closing one closes both."""
        other = copy.copy(self)
        other._timeout_s = self._timeout_s if timeout_s is None else timeout_s
        other._retry = retry or self._retry
        return other

    def _channel(self, library: Any) -> Any:
        """A channel of `grpc` or `grpc.aio`."""
        if self._credentials is None:
            return library.insecure_channel(self._target, self._channel_options)
        return library.secure_channel(self._target, self._credentials, self._channel_options)

    def _inference(
        self,
        entry: Entry[T],
        source: Source,
        options: AnalyzeOptions,
        *,
        timeout_s: float | None,
        request_id: str | None = None,
        series: str | None = None,
    ) -> steps.Steps[T]:
        deadline = Deadline(self._timeout_s if timeout_s is None else timeout_s)
        identity = check_request_id(request_id)

        def prepare() -> Call[T]:
            return Call(
                entry,
                load(source, series=series, timeout_s=deadline.remaining_s),
                options,
                request_id=identity,
                deadline=deadline,
                retry=self._retry,
                shares_memory=self._shares_memory,
            )

        return steps.inference(prepare, self._regions)

    def _health(self, deep: bool, timeout_s: float | None, model: str) -> steps.Steps[Health]:
        deadline = Deadline(timeout_s or (DEEP_HEALTH_TIMEOUT_S if deep else HEALTH_TIMEOUT_S))
        entry: Entry[Any] = spine_entry() if model == ENTRY_MODEL else segmentation_entry(model)

        def canary() -> steps.Steps[float]:
            remaining_s = max(deadline.remaining_s, 0.01)
            started_s = deadline.elapsed_s
            yield from self._inference(entry, canary_volume(), AnalyzeOptions(), timeout_s=remaining_s)
            return deadline.elapsed_s - started_s

        return steps.health(canary if deep else None, model, deadline)

    def _letting_go(self) -> steps.Steps[None]:
        """Before the connection closes: what the server still holds of our memory."""
        return steps.release(self._regions, patience_s=CLOSING_PATIENCE_S)


def check_concurrency(max_concurrency: int) -> None:
    """Raises ValueError for a number of requests at a time that makes no sense."""
    if max_concurrency < 1:
        raise ValueError(f"max_concurrency must be at least 1, not {max_concurrency}")


def tell_nobody(progress: Progress) -> None:
    """Default of `on_progress`."""
