"""What a caller can choose about the server, with the defaults in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Profile = Literal["cpu", "gpu"]
LogLevel = Literal["error", "warning", "info", "verbose"]

PROFILES: tuple[Profile, ...] = ("cpu", "gpu")
LogFormat = Literal["text", "json"]

LOG_FORMATS: tuple[LogFormat, ...] = ("text", "json")
LOG_LEVELS: tuple[LogLevel, ...] = ("error", "warning", "info", "verbose")
DEFAULT_GRPC_PORT = 8001
FREE_PORT = 0
"""As a port: take any free one."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How to start the server. The defaults are those of a test or a demo: loopback, gRPC alone, free port.

    Attributes
    ----------
    exact : offer the mode ``exact`` too, by a second instance of each network in float32; it takes memory
    repository : the model repository; None finds the checkout's own (see `repository.default_repository`)
    profile : ``"cpu"`` picks ``configs/cpu.pbtxt`` (OpenVINO), ``"gpu"`` picks ``config.pbtxt`` (TensorRT)
    host : address that gRPC and metrics listen on. HTTP has no TLS and stays on loopback whatever this says
    grpc_port : 0 takes a free one
    http_port, metrics_port : None keeps the service off, 0 takes a free port
    open_shared_memory : let callers hand volumes over in system shared memory. Whoever can reach the port may
        then have the server read any region of this machine that it may read: for one trusted host alone
    triton : folder of a Triton that is installed whole, such as ``/opt/tritonserver`` in NVIDIA's container;
        None takes the one in the nvidia-pytriton wheel
    triton_arguments : ``--name=value`` for Triton itself, in place of what would be said of the same name
    monitor_host : address of the metrics, and of the supervisor's status; None: that of gRPC
    log_level : of Triton and of the stages
    log_format : ``"text"`` as Triton writes it, or ``"json"``, one object a line
    log_file : where Triton's output goes; None sends it to standard error
    start_timeout_s : for loading all models and the canary together
    stop_timeout_s : for requests in flight to finish after the order to stop; then everything is killed
    """

    repository: Path | None = None
    profile: Profile = "cpu"
    exact: bool = False
    host: str = "127.0.0.1"
    grpc_port: int = FREE_PORT
    http_port: int | None = None
    metrics_port: int | None = None
    open_shared_memory: bool = False
    triton: Path | None = None
    triton_arguments: tuple[str, ...] = ()
    monitor_host: str | None = None
    log_level: LogLevel = "warning"
    log_format: LogFormat = "text"
    log_file: Path | None = None
    start_timeout_s: float = 180.0
    stop_timeout_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class SupervisionOptions:
    """How `spine-server` watches over its Triton.

    Attributes
    ----------
    canary_interval_s : between two looks at models that nobody has used meanwhile
    hung_after_s : a model that answers nothing for so long is dead; longer than the longest study
    held_after_s : a process that stands stopped (SIGSTOP, a frozen machine's) for so long is dead
    knock_timeout_s : for one look at all models; a busy one may leave it unanswered
    reload_timeout_s : for a model to be loaded anew and to answer, or what the server's start took if that is
        more; after that the server is restarted
    max_restarts : of Triton within five minutes, before `spine-server` gives up; 0 never restarts it
    status_port : where the supervisor's own metrics are; None keeps them off, 0 takes a free port
    """

    canary_interval_s: float = 15.0
    hung_after_s: float = 120.0
    held_after_s: float = 3.0
    knock_timeout_s: float = 5.0
    reload_timeout_s: float = 5.0
    max_restarts: int = 5
    status_port: int | None = None
