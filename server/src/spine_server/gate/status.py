"""A small HTTP door for kubelet and Prometheus: ``/live``, ``/ready`` and ``/metrics``, GET only, no TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

_READ_TIMEOUT_S = 5.0
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class StatusServer:
    """Answers on one port until closed.

    Parameters
    ----------
    ready : says whether the gate can take a study now
    metrics : the text for ``/metrics``
    """

    def __init__(self, *, ready: Callable[[], Awaitable[bool]], metrics: Callable[[], bytes]) -> None:
        self._ready = ready
        self._metrics = metrics
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port in use."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=8192)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _READ_TIMEOUT_S)
            words = head.split(b" ", 2)
            status, body = await self._answer(words[0], words[1] if len(words) > 1 else b"")
            lines = (f"HTTP/1.1 {status}", f"Content-Type: {_TEXT}", f"Content-Length: {len(body)}")
            writer.write("\r\n".join((*lines, "Connection: close", "", "")).encode() + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            pass  # a broken or idle connection is the other side's affair
        finally:
            writer.close()

    async def _answer(self, verb: bytes, path: bytes) -> tuple[str, bytes]:
        if verb != b"GET":
            return "405 Method Not Allowed", b"GET only\n"
        if path == b"/live":
            return "200 OK", b"live\n"
        if path == b"/ready":
            return (
                ("200 OK", b"ready\n") if await self._ready() else ("503 Service Unavailable", b"not ready\n")
            )
        if path == b"/metrics":
            return "200 OK", self._metrics()
        return "404 Not Found", b"try /live, /ready or /metrics\n"
