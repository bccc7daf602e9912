"""TLS in front of a server that speaks plain HTTP, as a reverse proxy in front of a PACS does it.

Orthanc's own TLS is not used: version 1.10.1 as Debian 12 ships it dies of a segmentation fault at the first
encrypted request.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_GONE = (OSError, asyncio.IncompleteReadError)


@contextmanager
def tls_relay(port: int, certificate: Path) -> Iterator[int]:
    """The port, on loopback, where what comes in TLS is handed on to `port`; `certificate` with its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    start = asyncio.start_server(lambda r, w: _relay(r, w, port), "127.0.0.1", 0, ssl=context)
    server = asyncio.run_coroutine_threadsafe(_started(start), loop).result(10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _started(start) -> asyncio.Server:
    return await start


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    ways = [
        asyncio.create_task(_pump(reader, inner_writer)),
        asyncio.create_task(_pump(inner_reader, writer)),
    ]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for side in (writer, inner_writer):
        side.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(*_GONE):
        while content := await reader.read(2**16):
            writer.write(content)
            await writer.drain()
