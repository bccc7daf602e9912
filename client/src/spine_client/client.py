"""The synchronous client."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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

ProgressCallback = Callable[[Progress], None]
_TICK_S = 0.2
"""How often the caller hears of a waiting request, and how soon Ctrl-C is noticed."""


class SpineClient:
    """A connection to one SpineServe address. Use it as a context manager, or call `close()`.

    Parameters
    ----------
    url : ``host:port`` of the gRPC endpoint, or any gRPC target: ``dns:///spineserve:8001`` spreads requests
        round robin over all addresses behind the name.
    timeout_s : seconds for one analysis from reading the source to the answer, retries included.
    retry, tls, access : see `RetryPolicy`, `Tls`, `Access`.

    One client may be used from several threads.
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
        credentials = channel_credentials(tls, access)
        options = channel_options(url)
        self._channel = (
            grpc.insecure_channel(url, options)
            if credentials is None
            else grpc.secure_channel(url, credentials, options)
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def __enter__(self) -> SpineClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what is still under way is cancelled."""
        self._channel.close()

    def with_options(
        self, *, timeout_s: float | None = None, retry: RetryPolicy | None = None
    ) -> SpineClient:
        """The same connection with another default deadline or retry policy; closing one closes both."""
        other = copy.copy(self)
        other._timeout_s = self._timeout_s if timeout_s is None else timeout_s
        other._retry = retry or self._retry
        return other

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
        source : a DICOM folder, file or list of files, a NIfTI file, (voxels, affine) or a `Volume`.
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
        deadline = Deadline(self._timeout_s if timeout_s is None else timeout_s)
        tell = on_progress or _tell_nobody
        identity = check_request_id(request_id)
        chosen = with_region(options, region)
        tell(Progress("reading", 0.0))
        volume = load(source, series=series, timeout_s=deadline.remaining_s)
        call = Call(volume, chosen, request_id=identity, deadline=deadline, retry=self._retry)
        result = self._run(call, tell)
        tell(Progress("done", deadline.elapsed_s, call.attempt))
        return result

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
                return Outcome(index, source, error=error)
            return Outcome(index, source, result=result)

        with ThreadPoolExecutor(max_concurrency, thread_name_prefix="spine") as pool:
            try:
                yield from _in_order_of_completion(pool, one, enumerate(sources), max_concurrency)
            finally:
                left.set()

    def health(self, *, deep: bool = False, timeout_s: float | None = None) -> Health:
        """Ask whether the server takes work; `deep` sends a small volume through all its stages.

        Never raises for a server that is down or broken: `Health.problem` then says what is wrong.
        """
        deadline = Deadline(health_timeout_s(timeout_s, deep=deep))
        check = HealthCheck()
        try:
            self._ask_all(check, deadline)
            if deep and check.state.ok:
                answer = self.analyze(canary_volume(), timeout_s=max(deadline.remaining_s, 0.01))
                check.canary_took(answer.elapsed_s)
        except SpineClientError as error:
            check.failed(error)
        return check.state

    def _ask_all(self, check: HealthCheck, deadline: Deadline) -> None:
        questions = check.questions()
        question = next(questions)
        try:
            while True:
                question = questions.send(self._ask(*question, deadline))
        except StopIteration:
            return

    def _ask(self, method: str, request: Any, deadline: Deadline) -> Any:
        try:
            remaining_s = max(deadline.remaining_s, 0.01)
            return getattr(self._stub, method)(request, timeout=remaining_s, metadata=self._access.metadata())
        except grpc.RpcError as error:
            raise error_from_status(error.code().name, error.details() or "", None) from None

    def _run(self, call: Call, tell: ProgressCallback) -> SpineResult:
        while True:
            request = call.next_request()
            try:
                return call.result(self._wait(request, call, tell))
            except grpc.RpcError as rpc_error:
                status, details = rpc_error.code().name, rpc_error.details() or ""
            except grpc.FutureCancelledError:
                message = "the client was closed while the request was under way"
                raise SpineClientError(message, request_id=call.request_id) from None
            pause_s = call.pause_after(error_from_status(status, details, call.request_id))
            tell(Progress("retrying", call.deadline.elapsed_s, call.attempt))
            time.sleep(pause_s)

    def _wait(self, request: Any, call: Call, tell: ProgressCallback) -> Any:
        """The answer of one attempt; whatever interrupts the wait cancels the request on the server."""
        future = self._stub.ModelInfer.future(
            request, timeout=call.deadline.remaining_s, metadata=self._access.metadata()
        )
        try:
            while True:
                tell(Progress("waiting", call.deadline.elapsed_s, call.attempt))
                try:
                    return future.result(timeout=_TICK_S)
                except grpc.FutureTimeoutError:
                    continue
        except BaseException:
            future.cancel()
            raise


class _CallerLeftError(Exception):
    """Ends a worker whose outcome nobody waits for any more."""


def _in_order_of_completion(
    pool: ThreadPoolExecutor,
    work: Callable[[int, Source], Outcome],
    numbered: Iterator[tuple[int, Source]],
    max_concurrency: int,
) -> Iterator[Outcome]:
    running = {pool.submit(work, *item) for item in islice(numbered, max_concurrency)}
    while running:
        done, pending = wait(running, return_when=FIRST_COMPLETED)
        running = set(pending)
        finished: list[Future[Outcome]] = list(done)
        while finished:
            running |= {pool.submit(work, *item) for item in islice(numbered, 1)}
            yield finished.pop().result()


def _tell_nobody(progress: Progress) -> None:
    """Default of `on_progress`."""
