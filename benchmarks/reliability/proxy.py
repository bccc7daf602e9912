"""HAProxy before the replicas: a layer 7 proxy that spreads gRPC requests and looks after the servers."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from reliability.replica import Replica, free_port

_READY = "/inference.GRPCInferenceService/ServerReady"
_CONFIG = """\
global
    log stderr format raw local0 notice
defaults
    mode http
    timeout connect 2s
    timeout client 300s
    timeout server 60s
    timeout check 4s
    retries 2
    retry-on conn-failure
    option redispatch
frontend grpc
    bind 127.0.0.1:{port} proto h2
    default_backend replicas
backend replicas
    balance leastconn
    option httpchk
    http-check connect proto h2
    http-check send meth POST uri {ready} ver HTTP/2 hdr content-type application/grpc hdr te trailers
    http-check expect status 200
    default-server proto h2 check inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


def available() -> bool:
    """Whether HAProxy is installed."""
    return shutil.which("haproxy") is not None


class Proxy:
    """HAProxy as a child of this process.

    Each replica is called on its gRPC port every second; that it answers within four is what counts. A
    server that hangs, or is out of reach, gets no more requests after ten seconds at most, and what it had in
    work is ended, to be tried elsewhere. No answer at all for a minute ends a request, too.

    Parameters
    ----------
    ports : where each replica is reached for requests
    """

    def __init__(self, replicas: Sequence[Replica], ports: Sequence[int], folder: Path) -> None:
        self.port = free_port()
        servers = "\n".join(
            f"    server replica{replica.number} 127.0.0.1:{port}"
            for replica, port in zip(replicas, ports, strict=True)
        )
        config = folder / "haproxy.cfg"
        config.write_text(_CONFIG.format(port=self.port, servers=servers, ready=_READY))
        self._log = (folder / "haproxy.log").open("wb")
        self._process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stderr=self._log)
        self._wait()

    def _wait(self) -> None:
        for _ in range(100):
            if self._process.poll() is not None:
                raise RuntimeError("HAProxy did not start: see haproxy.log")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError("HAProxy does not listen.")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._log.close()
