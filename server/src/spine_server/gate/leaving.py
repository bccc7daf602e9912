"""Tells the stages that a caller has left: Triton's ensemble does not pass a cancel on to a running step."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from spine_server.gate import rules

ATTENDANT = "attendant"
_TIMEOUT_S = 2.0


class LeavingCallers:
    """Passes on to `attendant`, behind `triton`, whose callers have gone. Nobody waits for it."""

    def __init__(self, triton: Any) -> None:
        self._tell = triton.unary_unary(
            rules.INFER,
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        self._telling: set[asyncio.Task[None]] = set()

    def left(self, request: bytes) -> None:
        """The caller who sent `request` (a ModelInferRequest) does not wait for the answer any more."""
        if request_id := service_pb2.ModelInferRequest.FromString(request).id:
            task = asyncio.create_task(self._tell_attendant(request_id))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell_attendant(self, request_id: str) -> None:
        message = service_pb2.ModelInferRequest(model_name=ATTENDANT)
        message.inputs.add(name="LEFT", datatype="BYTES", shape=[1])
        text = request_id.encode()
        message.raw_input_contents.append(len(text).to_bytes(4, "little") + text)
        try:
            await self._tell(message, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return  # the study ends by itself then, at its deadline at the latest
