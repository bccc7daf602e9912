"""The asynchronous client: the same steps, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

import grpc
from tritonclient.grpc import service_pb2_grpc

from spine_client._base import ClientBase, ProgressCallback, check_concurrency, tell_nobody
from spine_client._contract import ENTRY_MODEL, SEGMENTATION_MODEL
from spine_client._protocol import leaving_request, segmentation_entry, spine_entry
from spine_client._refusals import error_from_status
from spine_client._steps import Ask, Pause, Step, Steps, Tell
from spine_client.config import LEAVING_TIMEOUT_S
from spine_client.errors import SpineClientError
from spine_client.health import Health
from spine_client.options import AnalyzeOptions, with_region
from spine_client.outcome import Outcome
from spine_client.progress import Progress
from spine_client.result import SpineResult
from spine_client.segmentation import SegmentationResult
from spine_client.sources import Source

T = TypeVar("T")


class AsyncSpineClient(ClientBase):
    """`SpineClient` for asyncio: same parameters, same methods, to be awaited.

    Sources are read in worker threads; the event loop never blocks on files. Cancelling the task cancels the
    request on the server. Belongs to the event loop that first uses it.
    """

    def _open(self) -> None:
        self._connection = _Connection()

    async def __aenter__(self) -> AsyncSpineClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; what is still under way is cancelled."""
        if self._regions:
            await self._take(self._letting_go())
        self._connection.closed = True
        if self._connection.channel is not None:
            await self._connection.channel.close()

    async def analyze(
        self,
        source: Source,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
        region: str | None = None,
        series: str | None = None,
        options: AnalyzeOptions | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> SpineResult:
        """Segment and measure one volume, as `SpineClient.analyze`; `on_progress` hears of stages only."""
        steps = self._inference(
            spine_entry(),
            source,
            with_region(options, region),
            timeout_s=timeout_s,
            request_id=request_id,
            series=series,
        )
        return await self._take(steps, on_progress or tell_nobody)

    async def segment(
        self,
        source: Source,
        *,
        model: str = SEGMENTATION_MODEL,
        timeout_s: float | None = None,
        request_id: str | None = None,
        series: str | None = None,
        options: AnalyzeOptions | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> SegmentationResult:
        """Segment one volume by any network, as `SpineClient.segment`."""
        steps = self._inference(
            segmentation_entry(model),
            source,
            options or AnalyzeOptions(),
            timeout_s=timeout_s,
            request_id=request_id,
            series=series,
        )
        return await self._take(steps, on_progress or tell_nobody)

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
        check_concurrency(max_concurrency)

        async def one(index: int, source: Source) -> Outcome:
            def tell(progress: Progress) -> None:
                if on_progress is not None:
                    on_progress(index, progress)

            try:
                result = await self.analyze(
                    source, timeout_s=timeout_s, region=region, options=options, on_progress=tell
                )
            except SpineClientError as error:
                return Outcome(
                    index, source, error=error.with_traceback(None)
                )  # a traceback holds the volume
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

    async def health(
        self, *, deep: bool = False, timeout_s: float | None = None, model: str = ENTRY_MODEL
    ) -> Health:
        """As `SpineClient.health`."""
        return await self._take(self._health(deep, timeout_s, model))

    async def _take(self, steps: Steps[T], tell: ProgressCallback = tell_nobody) -> T:
        """Take all steps; what interrupts one is thrown into them, so that they can clean up."""
        try:
            step = next(steps)
            while True:
                answer, failure = None, None
                try:
                    answer = await self._do(step, tell)
                except BaseException as error:
                    failure = error
                step = steps.send(answer) if failure is None else steps.throw(failure)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _do(self, step: Step, tell: ProgressCallback) -> Any:
        if isinstance(step, Tell):
            return tell(step.progress)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        return await (self._ask(step, tell) if isinstance(step, Ask) else asyncio.to_thread(step.function))

    async def _ask(self, step: Ask, tell: ProgressCallback) -> Any:
        if self._connection.closed:
            raise SpineClientError("the client is closed", request_id=step.request_id)
        if step.progress is not None:
            tell(step.progress())
        ask = getattr(self._connect(), step.method)
        try:
            return await ask(
                step.request, timeout=max(step.timeout_s, 0.001), metadata=self._access.metadata()
            )
        except asyncio.CancelledError:
            if step.method == "ModelInfer" and step.request_id is not None:
                self._leave(step.request_id)
            raise
        except grpc.RpcError as error:
            status, details = error.code().name, error.details() or ""
        raise error_from_status(status, details, step.request_id)

    def _leave(self, request_id: str) -> None:
        """Tell the server, without waiting for it to hear."""
        telling = self._connection.telling
        call = self._connect().ModelInfer(
            leaving_request(request_id), timeout=LEAVING_TIMEOUT_S, metadata=self._access.metadata()
        )
        telling.add(call)  # a call that nobody holds is cancelled
        call.add_done_callback(telling.discard)

    def _connect(self) -> Any:
        connection = self._connection
        if connection.channel is None:
            connection.channel = self._channel(grpc.aio)
            connection.stub = service_pb2_grpc.GRPCInferenceServiceStub(connection.channel)
        return connection.stub


@dataclass
class _Connection:
    """What `with_options` shares: a channel, made inside the event loop that first needs it."""

    channel: Any = None
    stub: Any = None
    closed: bool = False
    telling: set[Any] = field(default_factory=set)


def _start(
    work: Callable[[int, Source], Coroutine[Any, Any, Outcome]],
    numbered: Iterator[tuple[int, Source]],
    count: int,
) -> set[asyncio.Task[Outcome]]:
    return {asyncio.ensure_future(work(*item)) for item in islice(numbered, count)}
