"""``python -m spine_server.gate``: runs the gate until SIGTERM, then drains it.

Exit codes: 0 drained; 2 wrong options, or a certificate, key or port cannot be had.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from spine_server.gate.keys import KeyFolderError
from spine_server.gate.server import GateOptions, GateServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, serve, drain. Returns the exit code."""
    parser = _parser()
    parsed = vars(parser.parse_args(arguments))
    parsed["models"] = tuple(parsed["models"])
    if (parsed["tls_certificate"] is None) != (parsed["tls_key"] is None):
        parser.error("--tls-cert and --tls-key go together")
    if parsed["tls_client_ca"] is not None and parsed["tls_certificate"] is None:
        parser.error("--tls-client-ca needs --tls-cert and --tls-key")
    try:
        asyncio.run(_run(GateOptions(**parsed)))
    except (OSError, RuntimeError, KeyFolderError) as error:
        print(f"spine-gate: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


async def _run(options: GateOptions) -> None:
    gate = GateServer(options)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await gate.start()
    print(f"spine-gate: grpc port {gate.port}, status port {gate.status_port}", flush=True)
    await stop.wait()
    print("spine-gate: draining; requests in flight are finished", flush=True)
    await gate.drain()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spine-gate", description="Authorising gRPC proxy before Triton.")
    add = parser.add_argument
    add(
        "--listen",
        default="127.0.0.1:8001",
        metavar="HOST:PORT",
        help="for callers (default: 127.0.0.1:8001)",
    )
    add("--triton", default="127.0.0.1:8101", metavar="HOST:PORT", help="Triton (default: 127.0.0.1:8101)")
    add("--status-port", type=int, default=8003, help="/live, /ready and /metrics (default: 8003)")
    add("--model", dest="models", action="append", required=True, help="a model callers may use; repeatable")
    add(
        "--tls-cert",
        dest="tls_certificate",
        type=Path,
        metavar="PEM",
        help="certificate; read again on change",
    )
    add("--tls-key", type=Path, metavar="PEM", help="its private key")
    add("--tls-client-ca", type=Path, metavar="PEM", help="demand client certificates of this authority")
    add("--api-keys", type=Path, metavar="DIR", help="one valid key in each file; read again on change")
    add("--max-request-mib", type=int, default=1024, help="larger requests are refused (default: 1024)")
    add("--max-concurrent", type=int, default=32, help="studies at once (default: 32)")
    add(
        "--max-receive",
        dest="max_receive_s",
        type=float,
        default=120.0,
        help="for a request (default: 120 s)",
    )
    add("--max-connection-age", dest="max_connection_age_s", type=float, default=300.0, help="default: 300 s")
    add("--drain", dest="drain_s", type=float, default=120.0, help="for requests in flight (default: 120 s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
