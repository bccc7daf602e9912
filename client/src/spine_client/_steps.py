"""What a client does, step by step, written once for both clients.

Each function here is a generator: it yields what is to be done next and is sent the answer, or has the error
thrown into it. `SpineClient` does the steps by blocking, `AsyncSpineClient` by awaiting; neither decides
anything.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from tritonclient.grpc import service_pb2 as pb

from spine_client import _shared_memory as shared_memory
from spine_client._protocol import Call, Deadline, leaving_request, read_state
from spine_client.errors import AccessRefused, InputError, ServerFailed, ServerUnavailable, SpineClientError
from spine_client.health import Health
from spine_client.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """Call a method of Triton's gRPC service; the answer is its response."""

    method: str
    request: Any
    timeout_s: float
    request_id: str | None = None
    progress: Callable[[], Progress] | None = None
    """What to tell the caller while it waits."""


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds; no answer."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Call a function that takes its time on files and arrays; the answer is what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Tell:
    """Tell the caller where the analysis stands; no answer."""

    progress: Progress


Step: TypeAlias = "Ask | Pause | Work | Tell"
Steps: TypeAlias = Generator[Step, Any, T]


def inference(prepare: Callable[[], Call[T]], regions: shared_memory.Leftovers) -> Steps[T]:
    """Read the source, ask until the server answers or should not be asked again, read the answer.

    `regions` collects shared memory that the server would not let go of yet.
    """
    yield Tell(Progress("reading", 0.0))
    call: Call[T] = yield Work(prepare)
    try:
        response = yield from _attempts(call, regions)
    except BaseException as error:
        call.span.end(error)
        raise
    call.span.end()
    result = call.result(response)
    yield Tell(replace(call.progress(), stage="done"))
    return result


def _attempts(call: Call[T], regions: shared_memory.Leftovers) -> Steps[Any]:
    while True:
        try:
            response = yield from _attempt(call, regions)
        except SpineClientError as error:
            failure = error
        else:
            return response
        pause_s = call.pause_after(failure)
        yield Tell(replace(call.progress(), stage="retrying"))
        yield Pause(pause_s)


def _attempt(call: Call[T], regions: shared_memory.Leftovers) -> Steps[Any]:
    request = call.next_request()
    if not call.shares_memory:
        answer = yield _infer(call, request)
        return answer
    yield from release(regions, patience_s=0.0)
    with shared_memory.SharedRegion(call.voxels, call.label_bytes) as region:
        yield from _register(call, region)
        region.unlink()  # the server has it open: from here on nothing stays behind, whatever becomes of us
        try:
            response = yield _infer(call, region.moved_into(request))
            region.fill(response)
        finally:
            regions.append(region.name)
            yield from release(regions, patience_s=shared_memory.PATIENCE_S)
    return response


def _infer(call: Call[T], request: Any) -> Ask:
    return Ask("ModelInfer", request, call.deadline.remaining_s, call.request_id, call.progress)


def _register(call: Call[T], region: shared_memory.SharedRegion) -> Steps[None]:
    try:
        yield Ask(
            "SystemSharedMemoryRegister", region.registration, call.deadline.remaining_s, call.request_id
        )
    except AccessRefused:
        refusal: SpineClientError = AccessRefused(shared_memory.CLOSED, request_id=call.request_id)
    except ServerFailed:
        refusal = InputError("shared_memory", shared_memory.OUT_OF_REACH)
    else:
        return
    raise refusal


def release(regions: shared_memory.Leftovers, *, patience_s: float) -> Steps[None]:
    """Unregister `regions`, trying again for `patience_s`: a server that still reads one does not let it go.

    What it has not let go of by then stays in `regions`, for the next request or for `close()`.
    """
    deadline = Deadline(max(patience_s, 0.001))
    pause_s = 0.01
    for name in list(regions):
        while True:
            try:
                request = pb.SystemSharedMemoryUnregisterRequest(name=name)
                yield Ask("SystemSharedMemoryUnregister", request, shared_memory.QUESTION_S)
            except ServerUnavailable:
                pass  # it is gone, and its mapping with it
            except SpineClientError:
                if deadline.remaining_s > pause_s:
                    yield Pause(pause_s)
                    pause_s = min(2 * pause_s, 0.5)
                    continue
                break
            regions.remove(name)
            break


def _supervisor(ask: Callable[[str, Any], Ask]) -> Steps[dict[str, Any] | None]:
    try:
        answer = yield ask("ModelInfer", leaving_request(""))
    except SpineClientError:
        return None  # an older server, or a gate before it
    return read_state(answer) or None


def health(canary: Callable[[], Steps[float]] | None, model: str, deadline: Deadline) -> Steps[Health]:
    """Ask whether the server takes work; then send it the `canary`, whose steps end with its seconds.

    A question that is not answered ends it: `Health.problem` says why.
    """
    state = Health(live=False, ready=False, model_ready=False)

    def ask(method: str, request: Any) -> Ask:
        return Ask(method, request, max(deadline.remaining_s, 0.01))

    try:
        live = yield ask("ServerLive", pb.ServerLiveRequest())
        state = replace(state, live=bool(live.live))
        ready = yield ask("ServerReady", pb.ServerReadyRequest())
        model_ready = yield ask("ModelReady", pb.ModelReadyRequest(name=model))
        metadata = yield ask("ServerMetadata", pb.ServerMetadataRequest())
        state = replace(
            state,
            ready=bool(ready.ready),
            model_ready=bool(model_ready.ready),
            server_version=str(metadata.version),
        )
        if not (state.ready and state.model_ready):
            return replace(state, problem=f"the server is up, but {model} is not ready")
        if canary is not None:
            state = replace(state, canary_s=(yield from canary()))
            state = replace(state, supervisor=(yield from _supervisor(ask)))
    except SpineClientError as error:
        return replace(state, problem=str(error))
    return state
