"""The asynchronous client: the same requests and answers, awaited."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from spine_client._connection import channel_credentials, channel_options
from spine_client._health_steps import HealthCheck, health_timeout_s
from spine_client._protocol import Call, Deadline, check_request_id, error_from_status
from spine_client.config import DEFAULT_TIMEOUT_S, DEFAULT_URL, Access, RetryPolicy, Tls
from spine_client.errors import SpineClientError
from spine_client.health import Health, canary_volume
from spine_client.options import AnalyzeOptions, with_region
from spine_client.outcome import Outcome
from spine_client.progress import Progress
from spine_client.result import SpineResult
from spine_client.sources import Source, load


class AsyncSpineClient:
    """`SpineClient` for asyncio: same parameters, same methods, to be awaited.

    Sources are read in worker threads; the event loop never blocks on files. Cancelling the task cancels the
    request on the server. Belongs to the event loop that first uses it.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        tls: Tls | None = None,
        access: Access | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()
        self._access = access or Access()
        self._connection = _Connection(url, channel_credentials(tls, access))

    async def __aenter__(self) -> AsyncSpineClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; what is still under way is cancelled."""
        await self._connection.close()

    def with_options(
        self, *, timeout_s: float | None = None, retry: RetryPolicy | None = None
    ) -> AsyncSpineClient:
        """The same connection with another default deadline or retry policy; closing one closes both."""
        other = copy.copy(self)
        other._timeout_s = self._timeout_s if timeout_s is None else timeout_s
        other._retry = retry or self._retry
        return other

    async def analyze(
        self,
        source: Source,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
        region: str | None = None,
        series: str | None = None,
        options: AnalyzeOptions | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> SpineResult:
        """Segment and measure one volume, as `SpineClient.analyze`; `on_progress` hears of stages only."""
        deadline = Deadline(self._timeout_s if timeout_s is None else timeout_s)
        tell = on_progress or _tell_nobody
        identity = check_request_id(request_id)
        chosen = with_region(options, region)

        def prepare() -> Call:
            volume = load(source, series=series, timeout_s=deadline.remaining_s)
            return Call(volume, chosen, request_id=identity, deadline=deadline, retry=self._retry)

        tell(Progress("reading", 0.0))
        call = await asyncio.to_thread(prepare)
        result = await self._run(call, tell)
        tell(Progress("done", deadline.elapsed_s, call.attempt))
        return result

    async def analyze_many(
        self,
        sources: Iterable[Source],
        *,
        max_concurrency: int = 4,
        timeout_s: float | None = None,
        region: str | None = None,
        options: AnalyzeOptions | None = None,
        on_progress: Callable[[int, Progress], None] | None = None,
    ) -> AsyncIterator[Outcome]:
        """Analyse many sources, as `SpineClient.analyze_many`; to be used with ``async for``."""

        async def one(index: int, source: Source) -> Outcome:
            def tell(progress: Progress) -> None:
                if on_progress is not None:
                    on_progress(index, progress)

            try:
                result = await self.analyze(
                    source, timeout_s=timeout_s, region=region, options=options, on_progress=tell
                )
            except SpineClientError as error:
                return Outcome(index, source, error=error)
            return Outcome(index, source, result=result)

        numbered = enumerate(sources)
        running = _start(one, numbered, max_concurrency)
        try:
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                while done:
                    running |= _start(one, numbered, 1)
                    yield done.pop().result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def health(self, *, deep: bool = False, timeout_s: float | None = None) -> Health:
        """As `SpineClient.health`."""
        deadline = Deadline(health_timeout_s(timeout_s, deep=deep))
        check = HealthCheck()
        try:
            await self._ask_all(check, deadline)
            if deep and check.state.ok:
                answer = await self.analyze(canary_volume(), timeout_s=max(deadline.remaining_s, 0.01))
                check.canary_took(answer.elapsed_s)
        except SpineClientError as error:
            check.failed(error)
        return check.state

    async def _ask_all(self, check: HealthCheck, deadline: Deadline) -> None:
        questions = check.questions()
        question = next(questions)
        try:
            while True:
                question = questions.send(await self._ask(*question, deadline))
        except StopIteration:
            return

    async def _ask(self, method: str, request: Any, deadline: Deadline) -> Any:
        try:
            ask = getattr(self._connection.stub, method)
            remaining_s = max(deadline.remaining_s, 0.01)
            return await ask(request, timeout=remaining_s, metadata=self._access.metadata())
        except grpc.RpcError as error:
            raise error_from_status(error.code().name, error.details() or "", None) from None

    async def _run(self, call: Call, tell: Callable[[Progress], None]) -> SpineResult:
        while True:
            request = call.next_request()
            tell(Progress("waiting", call.deadline.elapsed_s, call.attempt))
            try:
                response = await self._connection.stub.ModelInfer(
                    request, timeout=call.deadline.remaining_s, metadata=self._access.metadata()
                )
                return call.result(response)
            except grpc.RpcError as rpc_error:
                status, details = rpc_error.code().name, rpc_error.details() or ""
            pause_s = call.pause_after(error_from_status(status, details, call.request_id))
            tell(Progress("retrying", call.deadline.elapsed_s, call.attempt))
            await asyncio.sleep(pause_s)


class _Connection:
    """A channel that is opened inside the event loop that first needs it."""

    def __init__(self, url: str, credentials: Any) -> None:
        self._url = url
        self._credentials = credentials
        self._channel: Any = None
        self._stub: Any = None

    @property
    def stub(self) -> Any:
        """The service's methods."""
        if self._stub is None:
            options = channel_options(self._url)
            self._channel = (
                grpc.aio.insecure_channel(self._url, options)
                if self._credentials is None
                else grpc.aio.secure_channel(self._url, self._credentials, options)
            )
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return self._stub

    async def close(self) -> None:
        """Close the channel if it was opened."""
        if self._channel is not None:
            await self._channel.close()


def _start(
    work: Callable[[int, Source], Any], numbered: Iterator[tuple[int, Source]], count: int
) -> set[asyncio.Task[Outcome]]:
    return {asyncio.ensure_future(work(*item)) for item in islice(numbered, count)}


def _tell_nobody(progress: Progress) -> None:
    """Default of `on_progress`."""
