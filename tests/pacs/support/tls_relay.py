"""TLS in front of a server that speaks plain HTTP, as a reverse proxy in front of a PACS does it.

Orthanc's own TLS is not used: version 1.10.1 as Debian 12 ships it dies of a segmentation fault at the first
encrypted request.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def tls_relay(port: int, certificate: Path) -> Iterator[int]:
    """The port, on loopback, where what comes in TLS is handed on to `port`; `certificate` with its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    ready: Future[tuple[int, Callable[[], None]]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(port, context, ready)))
    thread.start()
    outer_port, stop = ready.result(30)
    try:
        yield outer_port
    finally:
        stop()
        thread.join()


async def _serve(port: int, context: ssl.SSLContext, ready: Future[tuple[int, Callable[[], None]]]) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(lambda r, w: _relay(r, w, port), "127.0.0.1", 0, ssl=context)
    ready.set_result((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(over.set)))
    await over.wait()
    server.close()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on until either side has gone; then close the other."""
    with suppress(OSError):
        while content := await reader.read(2**16):
            writer.write(content)
            await writer.drain()
    writer.close()
