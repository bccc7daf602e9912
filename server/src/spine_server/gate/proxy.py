"""The way of one call: check the method and the key, read the message, check the model, pass it on.

Every call is served as if the caller streamed: on the wire a single request looks the same, but so the key is
checked before a byte of a message that may be a gigabyte is taken in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, NoReturn

import grpc

from spine_server import wire_errors
from spine_server.gate import rules
from spine_server.gate.keys import HEADER, KeyRing
from spine_server.gate.leaving import LeavingCallers
from spine_server.gate.metrics import GateMetrics
from spine_server.gate.rules import Refusal

_NOT_FORWARDED = frozenset({HEADER, "authorization", "user-agent", "content-type", "te"})
_UNREACHABLE = "Triton is starting or restarting; try again shortly."
_STATUS = {
    "method": grpc.StatusCode.PERMISSION_DENIED,
    "model": grpc.StatusCode.PERMISSION_DENIED,
    "key": grpc.StatusCode.UNAUTHENTICATED,
    "busy": grpc.StatusCode.UNAVAILABLE,
    "malformed": grpc.StatusCode.INVALID_ARGUMENT,
    "slow": grpc.StatusCode.DEADLINE_EXCEEDED,
}
_ACCESS = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
_BUSY = Refusal("busy", wire_errors.with_retry_hint("As many studies as allowed are under way.", 1.0))
_SLOW = Refusal("slow", "The request did not come in within the time allowed.")
_NO_KEY = Refusal("key", f"A valid key is needed in the metadata {HEADER}.")


def _untouched(message: bytes) -> bytes:
    return message


class Gate(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Handles every method: refuses it, or passes its messages on to Triton.

    Parameters
    ----------
    triton : an open ``grpc.aio`` channel
    models : names that callers may use
    keys : None where no key is asked for
    max_concurrent : studies passed on at once; more are refused as busy, to be tried again
    max_receive_s : for a whole message to come in: a slow sender holds one of those places
    """

    def __init__(
        self,
        triton: Any,
        *,
        models: Collection[str],
        keys: KeyRing | None,
        max_concurrent: int,
        max_receive_s: float,
        metrics: GateMetrics,
    ) -> None:
        self._triton = triton
        self._leaving = LeavingCallers(triton)
        self._models = frozenset(models)
        self._keys = keys
        self._max_concurrent = max_concurrent
        self._max_receive_s = max_receive_s
        self._metrics = metrics
        self._inflight = 0

    def service(self, handler_call_details: Any) -> Any:
        """gRPC's entry: the handler of one call."""
        method = handler_call_details.method

        async def handle(messages: AsyncIterator[bytes], context: Any) -> bytes:
            return await self._counted(method, messages, context)

        return grpc.stream_unary_rpc_method_handler(handle, _untouched, _untouched)

    async def _counted(self, method: str, messages: AsyncIterator[bytes], context: Any) -> bytes:
        known = "other" if rules.method_refusal(method) else method.rpartition("/")[2]
        code = grpc.StatusCode.CANCELLED
        try:
            answer = await self._handle(method, messages, context)
            code = grpc.StatusCode.OK
            return answer
        except grpc.aio.AbortError:
            code = context.code()
            raise
        finally:
            self._metrics.requests.labels(method=known, code=_name(code)).inc()

    async def _handle(self, method: str, messages: AsyncIterator[bytes], context: Any) -> bytes:
        if refusal := rules.method_refusal(method) or self._key_refusal(method, context):
            await self._refuse(context, refusal)
        if method != rules.INFER:
            return await self._checked(method, messages, context)
        if self._inflight >= self._max_concurrent:
            await self._refuse(context, _BUSY)
        self._set_inflight(+1)
        started = time.monotonic()
        try:
            answer = await self._checked(method, messages, context)
        finally:
            self._set_inflight(-1)
        self._metrics.seconds.observe(time.monotonic() - started)
        return answer

    def _key_refusal(self, method: str, context: Any) -> Refusal | None:
        if self._keys is None or not rules.needs_key(method):
            return None
        presented = dict(context.invocation_metadata() or ()).get(HEADER)
        return None if self._keys.accepts(presented) else _NO_KEY

    def _set_inflight(self, change: int) -> None:
        self._inflight += change
        self._metrics.inflight.set(self._inflight)

    async def _checked(self, method: str, messages: AsyncIterator[bytes], context: Any) -> bytes:
        try:
            request = await asyncio.wait_for(_only_message(messages), self._max_receive_s)
        except asyncio.TimeoutError:
            await self._refuse(context, _SLOW)
        if request is None:
            await self._refuse(context, Refusal("malformed", "Exactly one message is expected."))
        if refusal := rules.model_refusal(method, request, models=self._models):
            await self._refuse(context, refusal)
        answer = await self._pass_on(method, request, context)
        if method == rules.INFER:
            self._metrics.bytes.labels(direction="in").inc(len(request))
            self._metrics.bytes.labels(direction="out").inc(len(answer))
        return answer

    async def _pass_on(self, method: str, request: bytes, context: Any) -> bytes:
        call: Callable[..., Any] = self._triton.unary_unary(method, _untouched, _untouched)
        metadata = [(key, value) for key, value in context.invocation_metadata() or () if _forwarded(key)]
        try:
            answer: bytes = await call(request, timeout=context.time_remaining(), metadata=metadata)
        except asyncio.CancelledError:
            if method == rules.INFER:
                self._leaving.left(request)
            raise
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), _details(error))
            raise AssertionError from error  # abort raises; this line is for the reader and the type checker
        return answer

    async def _refuse(self, context: Any, refusal: Refusal) -> NoReturn:
        self._metrics.refused.labels(reason=refusal.code).inc()
        status, sentence = _STATUS[refusal.code], refusal.sentence
        if status not in _ACCESS:  # clients know a refused access by its status alone
            sentence = wire_errors.wire_message(refusal.code, sentence)
        await context.abort(status, sentence)
        raise asyncio.CancelledError  # never reached: abort raises


async def _only_message(messages: AsyncIterator[bytes]) -> bytes | None:
    first = None
    async for message in messages:
        if first is not None:
            return None
        first = message
    return first


def _forwarded(key: str) -> bool:
    return key not in _NOT_FORWARDED and not key.startswith(("grpc-", ":"))


def _details(error: Any) -> str:
    """Triton's words; but where it could not be reached, not its inner address."""
    details = str(error.details() or "")
    if error.code() is grpc.StatusCode.UNAVAILABLE and "127.0.0.1" in details:
        return _UNREACHABLE
    return details


def _name(code: Any) -> str:
    """The name of a status; what `context.code()` holds is an enum or its number, by grpc's version."""
    if isinstance(code, grpc.StatusCode):
        return str(code.name)
    return next((each.name for each in grpc.StatusCode if each.value[0] == code), "UNKNOWN")
