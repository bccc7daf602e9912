"""A small HTTP door for kubelet and Prometheus, on a thread of its own: GET only, no TLS."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Page = tuple[bool, bytes]
"""Whether all is well (200) or not (503), and what to say."""
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_TIMEOUT_S = 5.0


def serve_page(pages: Callable[[str], Page | None], host: str, port: int) -> int:
    """Answer on `port` (0: any free one) until the process ends; the port.

    `pages` gives what stands at a path, None where nothing does.
    """
    server = ThreadingHTTPServer((host, port), _handler(pages))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="status page", daemon=True).start()
    return int(server.server_port)


def _handler(pages: Callable[[str], Page | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S

        def do_GET(self) -> None:
            page = pages(self.path.partition("?")[0])
            good, body = page or (False, b"try /live, /ready or /metrics\n")
            status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
            self.send_response(status if page else HTTPStatus.NOT_FOUND)
            self.send_header("Content-Type", _TEXT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Probes come every few seconds; nobody wants to read of them."""

    return Handler
