"""What a caller can choose about the server, with the defaults in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Profile = Literal["cpu", "gpu"]
LogLevel = Literal["error", "warning", "info", "verbose"]

PROFILES: tuple[Profile, ...] = ("cpu", "gpu")
LOG_LEVELS: tuple[LogLevel, ...] = ("error", "warning", "info", "verbose")
DEFAULT_GRPC_PORT = 8001
FREE_PORT = 0
"""As a port: take any free one."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How to start the server. The defaults are those of a test or a demo: loopback, gRPC alone, free port.

    Attributes
    ----------
    repository : the model repository; None finds the checkout's own (see `repository.default_repository`)
    profile : ``"cpu"`` picks ``configs/cpu.pbtxt`` (OpenVINO), ``"gpu"`` picks ``config.pbtxt`` (TensorRT)
    host : address that gRPC and metrics listen on. HTTP has no TLS and stays on loopback whatever this says
    grpc_port : 0 takes a free one
    http_port, metrics_port : None keeps the service off, 0 takes a free port
    log_level : of Triton and of the stages
    log_file : where Triton's output goes; None sends it to standard error
    start_timeout_s : for loading all models and the canary together
    stop_timeout_s : for requests in flight to finish after the order to stop; then everything is killed
    """

    repository: Path | None = None
    profile: Profile = "cpu"
    host: str = "127.0.0.1"
    grpc_port: int = FREE_PORT
    http_port: int | None = None
    metrics_port: int | None = None
    log_level: LogLevel = "warning"
    log_file: Path | None = None
    start_timeout_s: float = 180.0
    stop_timeout_s: float = 30.0
