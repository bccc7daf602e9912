"""The gate's life: open the ports, serve, drain when told to stop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from spine_server.gate.certificates import CertificateFiles
from spine_server.gate.keys import KeyRing
from spine_server.gate.metrics import GateMetrics
from spine_server.gate.proxy import Gate
from spine_server.gate.rules import SERVICE
from spine_server.gate.status import StatusServer

_READY_TIMEOUT_S = 2.0
_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """How to run the gate; ports given as 0 take any free one.

    Attributes
    ----------
    listen, triton : ``host:port``
    status_port : of ``/live``, ``/ready`` and ``/metrics``, on the host of `listen`
    models : models that callers may use
    tls_certificate, tls_key, tls_client_ca : PEM files; an authority makes it mutual TLS
    api_keys : folder of keys, one per file; None asks for none
    max_request_mib : larger messages are refused by gRPC itself
    max_concurrent : studies at once
    max_receive_s : for a whole request to come in
    max_connection_age_s : callers reconnect this often
    drain_s : for requests in flight after the order to stop
    """

    listen: str
    triton: str
    status_port: int
    models: tuple[str, ...]
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    api_keys: Path | None = None
    max_request_mib: int = 1024
    max_concurrent: int = 32
    max_receive_s: float = 120.0
    max_connection_age_s: float = 300.0
    drain_s: float = 120.0


class GateServer:
    """A running gate: `start`, later `drain`."""

    def __init__(self, options: GateOptions) -> None:
        self.options = options
        self.metrics = GateMetrics()
        self.port = 0
        self.status_port = 0
        self._draining = False
        self._status = StatusServer(ready=self.ready, metrics=self.metrics.text)

    async def start(self) -> None:
        """Open both ports.

        Raises
        ------
        OSError, RuntimeError, KeyFolderError
            A certificate or key file cannot be read, or a port is taken.
        """
        options = self.options
        self._triton = grpc.aio.insecure_channel(options.triton, options=_CHANNEL_OPTIONS)
        self._server_ready = self._triton.unary_unary(
            f"/{SERVICE}/ServerReady",
            request_serializer=service_pb2.ServerReadyRequest.SerializeToString,
            response_deserializer=service_pb2.ServerReadyResponse.FromString,
        )
        gate = Gate(
            self._triton,
            models=options.models,
            keys=KeyRing(options.api_keys) if options.api_keys else None,
            max_concurrent=options.max_concurrent,
            max_receive_s=options.max_receive_s,
            metrics=self.metrics,
        )
        self._server = grpc.aio.server(handlers=[gate], options=_server_options(options))
        self.port = self._open_port()
        await self._server.start()
        host = options.listen.rpartition(":")[0]
        self.status_port = await self._status.start(host.strip("[]"), options.status_port)

    def _open_port(self) -> int:
        options = self.options
        if options.tls_certificate is None or options.tls_key is None:
            return int(self._server.add_insecure_port(options.listen))
        files = CertificateFiles(options.tls_certificate, options.tls_key, options.tls_client_ca)
        return int(self._server.add_secure_port(options.listen, files.credentials()))

    async def ready(self) -> bool:
        """Whether Triton says it is ready and nobody has told us to stop."""
        if self._draining:
            return False
        try:
            answer = await self._server_ready(service_pb2.ServerReadyRequest(), timeout=_READY_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.ready)

    async def drain(self) -> None:
        """Take nothing new, wait for what is in flight up to `drain_s`, close."""
        self._draining = True
        await self._server.stop(self.options.drain_s)
        await self._triton.close()
        await self._status.close()


_CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


def _server_options(options: GateOptions) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", options.max_request_mib * _MIB),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_connection_age_ms", int(options.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", int(options.drain_s * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.so_reuseport", 0),
    ]
