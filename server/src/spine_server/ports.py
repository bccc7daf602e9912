"""Picks free ports and says which wanted ones are taken."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace

from spine_server.options import FREE_PORT, ServerOptions

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Listener:
    """One service: its name as the option spells it, its address, its port."""

    service: str
    host: str
    port: int


def listeners(options: ServerOptions) -> list[Listener]:
    """All services that `options` turns on."""
    wanted = (
        ("grpc", options.host, options.grpc_port),
        ("http", LOOPBACK, options.http_port),
        ("metrics", options.monitor_host or options.host, options.metrics_port),
    )
    return [Listener(service, host, port) for service, host, port in wanted if port is not None]


def with_ports_chosen(options: ServerOptions) -> ServerOptions:
    """`options` with a free port in place of every 0. The ports differ from one another."""
    held: list[socket.socket] = []
    chosen: dict[str, int] = {}
    try:
        for listener in listeners(options):
            if listener.port == FREE_PORT:
                held.append(_bind(listener))
                chosen[listener.service] = held[-1].getsockname()[1]
    finally:
        for bound in held:
            bound.close()
    return replace(
        options,
        grpc_port=chosen.get("grpc", options.grpc_port),
        http_port=chosen.get("http", options.http_port),
        metrics_port=chosen.get("metrics", options.metrics_port),
    )


def port_problems(options: ServerOptions) -> list[str]:
    """One sentence for each port that cannot be listened on."""
    problems = []
    seen: dict[int, str] = {}
    for listener in listeners(options):
        if listener.port and (other := seen.setdefault(listener.port, listener.service)) != listener.service:
            problems.append(
                f"Port {listener.port} is wanted by both --{other}-port and --{listener.service}-port."
            )
            continue
        try:
            _bind(listener).close()
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "ports go up to 65535"
            problems.append(
                f"Cannot listen on {listener.host}:{listener.port} ({reason}); "
                f"choose another with --{listener.service}-port or --host."
            )
    return problems


def _bind(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((listener.host, listener.port))
    except (OSError, OverflowError):
        bound.close()
        raise
    return bound
