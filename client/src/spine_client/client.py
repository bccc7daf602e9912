"""The synchronous client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
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
_TICK_S = 0.2
"""How often the caller hears of a waiting request, and how soon Ctrl-C is noticed."""


class SpineClient(ClientBase):
    """A connection to SpineServe. Use it as a context manager, or call `close()`.

    Parameters
    ----------
    url : ``host:port`` of the gRPC endpoint, or any gRPC target: ``dns:///spineserve:8001`` spreads requests
        round robin over all addresses behind the name, and so does a list of ``IP:port``.
    timeout_s : seconds for one analysis from reading the source to the answer, retries included.
    retry, tls, access : see `RetryPolicy`, `Tls`, `Access`.
    shared_memory : hand volumes over in system shared memory: for one server on this machine, started with
        ``--open-shared-memory`` by the same user. Every region is unlinked as soon as the server has it, and
        unregistered when it has answered; one that it still reads (after a deadline or a cancel) is
        unregistered by the next request or by `close()`, which waits up to 30 s for that.

    One client may be used from several threads.
    """

    def _open(self) -> None:
        self._opened = self._channel(grpc)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._opened)

    def __enter__(self) -> SpineClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what is still under way is cancelled."""
        if self._regions:
            self._take(self._letting_go())
        self._opened.close()

    def analyze(
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
        """Segment and measure one volume.

        Parameters
        ----------
        source : as in `spine_client.sources.Source`: a DICOM folder, file or list of files, an image file
            of another kind, (voxels, affine) or a `Volume`.
        timeout_s : overrides the client's; one deadline for reading, all attempts and the server's own work.
        request_id : 1–64 letters, digits, ``.-_``; random by default. Never put a patient's id here.
        region : ``cervical``, ``thoracic`` or ``lumbar``, a hint for naming levels.
        series : DICOM series or stack id as `spine inspect` lists it; the best one is chosen by default.
        options : further `AnalyzeOptions`; `region` overrides the one in it.
        on_progress : called with a `Progress` a few times per second, from the calling thread.

        Raises
        ------
        SpineClientError : one of the tree in `spine_client.errors`. KeyboardInterrupt cancels on the server.
        """
        steps = self._inference(
            spine_entry(),
            source,
            with_region(options, region),
            timeout_s=timeout_s,
            request_id=request_id,
            series=series,
        )
        return self._take(steps, on_progress or tell_nobody)

    def segment(
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
        """Segment one volume by a network that need not know spines: labels in its own numbers, no report.

        `model` is an entry model of the server, ``segmentation`` or, for a network exported under another
        name, ``segmentation_<name>``. Everything else is as in `analyze`.
        """
        steps = self._inference(
            segmentation_entry(model),
            source,
            options or AnalyzeOptions(),
            timeout_s=timeout_s,
            request_id=request_id,
            series=series,
        )
        return self._take(steps, on_progress or tell_nobody)

    def analyze_many(
        self,
        sources: Iterable[Source],
        *,
        max_concurrency: int = 4,
        timeout_s: float | None = None,
        region: str | None = None,
        options: AnalyzeOptions | None = None,
        on_progress: Callable[[int, Progress], None] | None = None,
    ) -> Iterator[Outcome]:
        """Analyse many sources, `max_concurrency` at a time; an `Outcome` each, in the order of completion.

        `sources` may be endless: it is read as work is done, and no more than ``2 * max_concurrency`` volumes
        are held at a time. An error of one source does not stop the others. `on_progress` is told the
        source's index, from worker threads. Leaving the loop early cancels what is under way.
        """
        check_concurrency(max_concurrency)
        left = threading.Event()

        def one(index: int, source: Source) -> Outcome:
            def tell(progress: Progress) -> None:
                if left.is_set():
                    raise _CallerLeftError
                if on_progress is not None:
                    on_progress(index, progress)

            try:
                result = self.analyze(
                    source, timeout_s=timeout_s, region=region, options=options, on_progress=tell
                )
            except SpineClientError as error:
                return Outcome(
                    index, source, error=error.with_traceback(None)
                )  # a traceback holds the volume
            return Outcome(index, source, result=result)

        return self._in_order_of_completion(one, enumerate(sources), max_concurrency, left)

    def health(
        self, *, deep: bool = False, timeout_s: float | None = None, model: str = ENTRY_MODEL
    ) -> Health:
        """Ask whether the server takes work; `deep` sends a small volume through all stages of `model`.

        Never raises for a server that is down or broken: `Health.problem` then says what is wrong.
        """
        return self._take(self._health(deep, timeout_s, model))

    def _take(self, steps: Steps[T], tell: ProgressCallback = tell_nobody) -> T:
        """Take all steps; what interrupts one is thrown into them, so that they can clean up."""
        try:
            step = next(steps)
            while True:
                answer, failure = None, None
                try:
                    answer = self._do(step, tell)
                except BaseException as error:
                    failure = error
                step = steps.send(answer) if failure is None else steps.throw(failure)
        except StopIteration as end:
            result: T = end.value
            return result

    def _do(self, step: Step, tell: ProgressCallback) -> Any:
        if isinstance(step, Tell):
            return tell(step.progress)
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        return self._ask(step, tell) if isinstance(step, Ask) else step.function()

    def _ask(self, step: Ask, tell: ProgressCallback) -> Any:
        """The answer to one question; whatever interrupts the wait cancels it on the server."""
        try:
            return self._wait(step, tell)
        except grpc.RpcError as error:
            status, details = error.code().name, error.details() or ""
            error.with_traceback(None)  # it is the call itself: a traceback of its own would keep the volume
        except grpc.FutureCancelledError:
            message = "the client was closed while the request was under way"
            raise SpineClientError(message, request_id=step.request_id) from None
        raise error_from_status(status, details, step.request_id)

    def _wait(self, step: Ask, tell: ProgressCallback) -> Any:
        metadata = self._access.metadata()
        try:
            future = getattr(self._stub, step.method).future(
                step.request, timeout=max(step.timeout_s, 0.001), metadata=metadata
            )
        except ValueError:
            raise SpineClientError("the client is closed", request_id=step.request_id) from None
        try:
            while True:
                if step.progress is not None:
                    tell(step.progress())
                try:
                    return future.result(timeout=_TICK_S)
                except grpc.FutureTimeoutError:
                    continue
        except grpc.RpcError:
            raise
        except BaseException:
            future.cancel()
            if step.method == "ModelInfer" and step.request_id is not None:
                self._leave(step.request_id, metadata)
            raise

    def _leave(self, request_id: str, metadata: Any) -> None:
        with suppress(grpc.RpcError, ValueError):  # then it ends at its deadline
            self._stub.ModelInfer(leaving_request(request_id), timeout=LEAVING_TIMEOUT_S, metadata=metadata)

    @staticmethod
    def _in_order_of_completion(
        work: Callable[[int, Source], Outcome],
        numbered: Iterator[tuple[int, Source]],
        max_concurrency: int,
        left: threading.Event,
    ) -> Iterator[Outcome]:
        with ThreadPoolExecutor(max_concurrency, thread_name_prefix="spine") as pool:
            try:
                running = {pool.submit(work, *item) for item in islice(numbered, max_concurrency)}
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    while done:
                        running |= {pool.submit(work, *item) for item in islice(numbered, 1)}
                        yield done.pop().result()
            finally:
                left.set()


class _CallerLeftError(Exception):
    """Ends a worker whose outcome nobody waits for any more."""
