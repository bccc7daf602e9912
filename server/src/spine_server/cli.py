"""`spine-server`: starts Triton on SpineServe's model repository and keeps it at work until told to stop.

Exit codes: 0 stopped in order; 1 Triton failed to start; 2 wrong options, or something is missing on this
machine or in the repository; 3 Triton did not stop in time and was killed; 4 Triton failed so often that it
was given up (with ``--max-restarts 0``: once).
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import FrameType

from spine_server import __version__, json_log
from spine_server.embedded import EmbeddedTriton
from spine_server.errors import PreconditionError, ServerError, StopRequested
from spine_server.options import (
    DEFAULT_GRPC_PORT,
    LOG_FORMATS,
    LOG_LEVELS,
    PROFILES,
    ServerOptions,
    SupervisionOptions,
)
from spine_server.supervisor import Supervisor

EXIT_STOPPED, EXIT_FAILED, EXIT_NOT_POSSIBLE, EXIT_KILLED, EXIT_GAVE_UP = 0, 1, 2, 3, 4
_SUPERVISION = frozenset(field.name for field in fields(SupervisionOptions))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, start, announce readiness, wait for a signal, stop. Returns the exit code."""
    parsed = vars(_parser().parse_args(arguments))
    parsed["triton_arguments"] = tuple(parsed["triton_arguments"])
    watching = SupervisionOptions(**{name: parsed.pop(name) for name in _SUPERVISION & parsed.keys()})
    say = _say_json if parsed["log_format"] == "json" else _say
    supervisor = Supervisor(ServerOptions(**parsed), watching, say=say)

    def request_stop(number: int, frame: FrameType | None) -> None:
        supervisor.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, request_stop)
    try:
        status = _status_url(supervisor, watching)
        supervisor.start()
        _announce(supervisor.server, status)
        in_order = supervisor.run()
    except StopRequested:
        return EXIT_STOPPED
    except PreconditionError as error:
        for problem in error.problems:
            _say(problem)
        return EXIT_NOT_POSSIBLE
    except ServerError as error:
        _say(str(error))
        return EXIT_FAILED
    return _stop(supervisor, in_order=in_order)


def _status_url(supervisor: Supervisor, watching: SupervisionOptions) -> str | None:
    """Open the supervisor's own page; the address of its metrics, or None where it is off."""
    if watching.status_port is None:
        return None
    options = supervisor.server.options
    host = options.monitor_host or options.host
    try:
        return f"http://{host}:{supervisor.board.serve(host, watching.status_port)}/metrics"
    except (OSError, OverflowError) as error:
        raise PreconditionError(
            [f"Cannot listen on --status-port {watching.status_port} ({error})."]
        ) from None


def _stop(supervisor: Supervisor, *, in_order: bool) -> int:
    if in_order:
        _say("stopping; requests in flight are finished")
        return EXIT_STOPPED if supervisor.stop() else EXIT_KILLED
    supervisor.stop()
    _say(f"gave up. Triton's last words:\n{supervisor.last_words}")
    return EXIT_GAVE_UP


def _announce(server: EmbeddedTriton, status_url: str | None) -> None:
    urls = (("http", server.http_url), ("metrics", server.metrics_url), ("status", status_url))
    also = [f"{name} {url}" for name, url in urls if url]
    print(
        f"spine-server: ready in {server.started_in_s:.1f} s at grpc {', '.join([server.grpc_url, *also])}",
        flush=True,
    )


def _say(text: str) -> None:
    print(f"spine-server: {text}", file=sys.stderr, flush=True)


def _say_json(text: str) -> None:
    print(json_log.entry(text, level="warning", source="supervisor"), file=sys.stderr, flush=True)


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
    add("--exact", action="store_true", help="offer the mode exact: each network in float32 as well")
    add("--host", default="127.0.0.1", help="address for gRPC and metrics (default: 127.0.0.1)")
    add("--monitor-host", metavar="HOST", help="address for metrics and status instead (default: --host's)")
    add(
        "--grpc-port",
        type=int,
        default=DEFAULT_GRPC_PORT,
        metavar="PORT",
        help="default: 8001; 0: any free one",
    )
    add("--http-port", type=int, metavar="PORT", help="also serve HTTP, on loopback only (default: off)")
    add("--metrics-port", type=int, metavar="PORT", help="serve Prometheus metrics (default: off)")
    add(
        "--open-shared-memory",
        action="store_true",
        help="let callers on this machine hand volumes over in shared memory (default: closed)",
    )
    add("--log-format", choices=LOG_FORMATS, default="text", help="of all output to the log (default: text)")
    add("--log-level", choices=LOG_LEVELS, default="info", help="of Triton and of the stages (default: info)")
    add(
        "--log-file", type=Path, metavar="FILE", help="append Triton's output there instead of standard error"
    )
    add(
        "--start-timeout", dest="start_timeout_s", type=float, default=180.0, metavar="S", help="default: 180"
    )
    add("--stop-timeout", dest="stop_timeout_s", type=float, default=30.0, metavar="S", help="default: 30")
    add(
        "--status-port",
        type=int,
        metavar="PORT",
        help="serve /live, /ready and its own /metrics (default: off)",
    )
    add(
        "--canary-interval",
        dest="canary_interval_s",
        type=float,
        default=15.0,
        metavar="S",
        help="between canaries to models that nobody uses (default: 15)",
    )
    add(
        "--hung-after",
        dest="hung_after_s",
        type=float,
        default=120.0,
        metavar="S",
        help="a model that answers nothing for so long is dead; longer than the longest study (default: 120)",
    )
    add(
        "--reload-within",
        dest="reload_timeout_s",
        type=float,
        default=5.0,
        metavar="S",
        help="of a dead stage; or as long as the start took, then a restart (default: 5)",
    )
    add(
        "--max-restarts",
        type=int,
        default=5,
        metavar="N",
        help="of Triton within five minutes, before giving up (default: 5)",
    )
    add("--triton", type=Path, metavar="DIR", help="an installed Triton (default: the wheel's)")
    add("triton_arguments", nargs="*", metavar="--NAME=VALUE", help="for Triton itself, after a bare --")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
