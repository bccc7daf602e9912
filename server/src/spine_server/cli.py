"""`spine-server`: starts Triton on SpineServe's model repository and keeps it until it is told to stop.

Exit codes: 0 stopped in order; 1 Triton failed to start or ended by itself; 2 wrong options, or something is
missing on this machine or in the repository; 3 Triton did not stop in time and was killed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from spine_server import __version__
from spine_server.embedded import EmbeddedTriton
from spine_server.errors import PreconditionError, ServerError, StopRequested
from spine_server.options import DEFAULT_GRPC_PORT, LOG_LEVELS, PROFILES, ServerOptions

EXIT_STOPPED, EXIT_FAILED, EXIT_NOT_POSSIBLE, EXIT_KILLED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, start, announce readiness, wait for a signal, stop. Returns the exit code."""
    options = _options(_parser().parse_args(arguments))
    server = EmbeddedTriton(options)

    def request_stop(number: int, frame: FrameType | None) -> None:
        server.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, request_stop)
    try:
        server.start()
        _announce(server)
        code = server.wait()
    except StopRequested:
        return EXIT_STOPPED
    except PreconditionError as error:
        for problem in error.problems:
            _say(problem)
        return EXIT_NOT_POSSIBLE
    except ServerError as error:
        _say(str(error))
        return EXIT_FAILED
    return _stop(server, code)


def _stop(server: EmbeddedTriton, code: int | None) -> int:
    if code is None:
        _say("stopping; requests in flight are finished")
        return EXIT_STOPPED if server.stop() else EXIT_KILLED
    server.stop()
    _say(f"Triton ended by itself (exit code {code}). Its last words:\n{server.last_words()}")
    return EXIT_FAILED


def _announce(server: EmbeddedTriton) -> None:
    also = [
        f"{name} {url}" for name, url in (("http", server.http_url), ("metrics", server.metrics_url)) if url
    ]
    print(
        f"spine-server: ready in {server.started_in_s:.1f} s at grpc {', '.join([server.grpc_url, *also])}",
        flush=True,
    )


def _say(text: str) -> None:
    print(f"spine-server: {text}", file=sys.stderr, flush=True)


def _options(parsed: argparse.Namespace) -> ServerOptions:
    return ServerOptions(**vars(parsed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spine-server", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--version", action="version", version=f"spine-server {__version__}")
    add = parser.add_argument
    add("--repository", type=Path, metavar="DIR", help="model repository (default: the checkout's own)")
    add(
        "--profile",
        choices=PROFILES,
        default="cpu",
        help="OpenVINO on the CPU or TensorRT on a GPU (default: cpu)",
    )
    add("--host", default="127.0.0.1", help="address for gRPC and metrics (default: 127.0.0.1)")
    add(
        "--grpc-port",
        type=int,
        default=DEFAULT_GRPC_PORT,
        metavar="PORT",
        help="default: 8001; 0: any free one",
    )
    add("--http-port", type=int, metavar="PORT", help="also serve HTTP, on loopback only (default: off)")
    add("--metrics-port", type=int, metavar="PORT", help="serve Prometheus metrics (default: off)")
    add("--log-level", choices=LOG_LEVELS, default="info", help="of Triton and of the stages (default: info)")
    add(
        "--log-file", type=Path, metavar="FILE", help="append Triton's output there instead of standard error"
    )
    add(
        "--start-timeout", dest="start_timeout_s", type=float, default=180.0, metavar="S", help="default: 180"
    )
    add("--stop-timeout", dest="stop_timeout_s", type=float, default=30.0, metavar="S", help="default: 30")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
