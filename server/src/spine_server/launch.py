"""The command line and the environment that Triton is started with."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from pathlib import Path

from spine_server.callers import RUN_FOLDER_VARIABLE
from spine_server.control import SOCKET_PORT
from spine_server.distribution import TritonDistribution, interpreter_folder
from spine_server.options import LOG_LEVELS, LogLevel, ServerOptions
from spine_server.ports import LOOPBACK

MIN_PING_INTERVAL_MS = 5_000
"""How often callers may ask whether the connection stands; gRPC's own 5 minutes would cut off the SDK."""

STUB_START_TIMEOUT_S = 120
"""How long one stage may take to import its packages: several start at once, perhaps on few cores."""

STAGE_DEFAULTS = {
    # numpy's OpenBLAS asks all cores for the inverse of a 4x4 matrix, 40 times its own work, and waits for a
    # time slice of each where they are busy. The stages' products are small, and have threads of their own.
    "OPENBLAS_NUM_THREADS": "1",
    # From 4 MiB on memory goes back to the machine when it is freed. glibc raises the limit to 32 MiB by
    # itself, and so keeps one volume's for the next one. Our stages give theirs back when they are idle.
    "MALLOC_MMAP_THRESHOLD_": str(4 * 2**20),
}
"""Environment variables that Triton and its stages get unless they are set; the image sets the same."""

_CLOSED_TO_CALLERS = ("model-repository", "shared-memory", "trace", "logging")
_PYTHON_BACKENDS = ("python", "openvino")
_GIVEN_SEVERAL_TIMES = ("--backend-config", "--trace-config")


def command_line(
    options: ServerOptions,
    *,
    executable: Path,
    repository: Path,
    backends: Path,
    run_name: str,
    control: str | None = None,
    beside: Path | None = None,
) -> list[str]:
    """Triton's whole command line; every port in `options` has been chosen by now.

    `control` is the address of a Unix socket on which models can be loaded anew; None fixes them at start.
    `beside` is a second model repository.
    """
    command = [
        *_dies_with_us(),
        str(executable),
        f"--model-repository={repository}",
        *([f"--model-repository={beside}"] if beside else []),
        f"--backend-directory={backends}",
        *_control_arguments(control),
        "--disable-auto-complete-config",
        # One stub starts at a time: together, on a busy machine, they can starve one another for the 10 s
        # after which boost's interprocess locks give up, and Triton aborts. It takes no longer.
        "--model-load-thread-count=1",
        f"--exit-timeout-secs={max(1, int(options.stop_timeout_s))}",
        *_listener_arguments(options, control),
        *_log_arguments(options.log_level),
    ]
    for backend in _PYTHON_BACKENDS:
        command += [
            f"--backend-config={backend},shm-region-prefix-name={run_name}",
            f"--backend-config={backend},stub-timeout-seconds={STUB_START_TIMEOUT_S}",
        ]
    if options.profile == "cpu":
        command += [
            "--model-config-name=cpu",
            "--pinned-memory-pool-byte-size=0",
            "--allow-gpu-metrics=false",
        ]
    return [*_without(command, options.triton_arguments), *options.triton_arguments]


def _without(command: list[str], given: tuple[str, ...]) -> list[str]:
    """`command` less the options that are given anew, and may be given once."""
    names = {argument.partition("=")[0] for argument in given} - set(_GIVEN_SEVERAL_TIMES)
    return [word for word in command if word.partition("=")[0] not in names]


def environment(distribution: TritonDistribution, *, run_folder: Path | None = None) -> dict[str, str]:
    """The environment by which the stub finds this interpreter's libpython and packages.

    `run_folder` is where the stages keep what they tell one another; without it they make one themselves.
    """
    inherited = os.environ.get("PATH", os.defpath)
    told = {} if run_folder is None else {RUN_FOLDER_VARIABLE: str(run_folder)}
    return {
        **STAGE_DEFAULTS,
        **os.environ,
        **told,
        "LD_LIBRARY_PATH": distribution.library_path(),
        "PATH": f"{interpreter_folder()}{os.pathsep}{inherited}",
        "PYTHONDONTWRITEBYTECODE": "1",  # a repository may be read-only, and should stay as checked in
    }


def _dies_with_us() -> list[str]:
    """A wrapper by which the kernel stops Triton when we are killed outright.

    The kernel's rule is about the starting thread, so it is left out in threads that may end before the
    server.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", "TERM"]


def _control_arguments(control: str | None) -> list[str]:
    if control is None:
        return ["--model-control-mode=none"]
    return ["--model-control-mode=explicit", "--load-model=*"]


def _listener_arguments(options: ServerOptions, control: str | None) -> list[str]:
    # What changes a running server is closed with a key that nobody is told.
    key = secrets.token_hex(16)
    opened = {"shared-memory"} if options.open_shared_memory else set()
    closed = ",".join(protocol for protocol in _CLOSED_TO_CALLERS if protocol not in opened)
    arguments = [
        f"--grpc-address={options.host}",
        f"--grpc-port={options.grpc_port}",
        f"--grpc-http2-min-recv-ping-interval-without-data={MIN_PING_INTERVAL_MS}",
        f"--grpc-restricted-protocol={closed}:admin-key={key}",
        f"--allow-http={'false' if options.http_port is None and control is None else 'true'}",
        f"--allow-metrics={'false' if options.metrics_port is None else 'true'}",
    ]
    if options.http_port is not None:
        arguments += [
            f"--http-address={LOOPBACK}",
            f"--http-port={options.http_port}",
            f"--http-restricted-api={closed}:admin-key={key}",
        ]
    elif control is not None:
        arguments += [f"--http-address={control}", f"--http-port={SOCKET_PORT}"]
    if options.metrics_port is not None:
        arguments += [
            f"--metrics-address={options.monitor_host or options.host}",
            f"--metrics-port={options.metrics_port}",
        ]
    return arguments


def _log_arguments(level: LogLevel) -> list[str]:
    shown = LOG_LEVELS.index(level)
    return [
        f"--log-warning={'true' if shown >= LOG_LEVELS.index('warning') else 'false'}",
        f"--log-info={'true' if shown >= LOG_LEVELS.index('info') else 'false'}",
        f"--log-verbose={1 if level == 'verbose' else 0}",
        "--log-format=ISO8601",
    ]
