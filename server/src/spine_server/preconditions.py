"""Checks everything Triton needs before it is started, and says in one sentence each what is missing.

Without a loadable libpython Triton hangs in "loading" and tells only its log; a full /dev/shm shows at the
first large volume; a port already taken after a minute of loading. All of that is known beforehand.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path

from spine_server.distribution import LIBPYTHON, PYTHON_VERSION, TritonDistribution, interpreter_folder
from spine_server.leftovers import SHARED_MEMORY
from spine_server.options import Profile, ServerOptions
from spine_server.ports import port_problems
from spine_server.repository import repository_problems
from spine_server.run_folder import available_backends

MIN_SHARED_MEMORY_BYTES = 512 * 2**20
"""Below this free space in /dev/shm a usual volume may fail: every stage's tensors pass through it."""

LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
_PACKAGES: dict[Profile, tuple[str, ...]] = {
    "cpu": ("numpy", "scipy", "spinecore", "openvino"),
    "gpu": ("numpy", "scipy", "spinecore"),
}
_DEBIAN_PACKAGE = {
    "libstdc++.so.6": "libstdc++6",
    "libgcc_s.so.1": "libgcc-s1",
    "libexpat.so.1": "libexpat1",
    "libz.so.1": "zlib1g",
    LIBPYTHON: f"libpython{PYTHON_VERSION}",
}


def problems(options: ServerOptions, repository: Path, distribution: TritonDistribution) -> list[str]:
    """All that stands against starting; empty when nothing does."""
    return [
        *library_problems(distribution),
        *python_problems(options.profile),
        *shared_memory_problems(),
        *port_problems(options),
        *opened_memory_problems(options),
        *log_problems(options.log_file),
        *repository_problems(repository, options.profile, backends=available_backends(distribution)),
    ]


def opened_memory_problems(options: ServerOptions) -> list[str]:
    """Shared memory is for callers on this machine, so nobody else may reach the port that opens it."""
    if not options.open_shared_memory or options.host in LOOPBACK_HOSTS:
        return []
    return [
        "--open-shared-memory lets callers read this machine's memory; it goes with --host 127.0.0.1 alone."
    ]


def library_problems(distribution: TritonDistribution) -> list[str]:
    """Shared libraries that the dynamic loader would not find for Triton, its Python backend or the stub."""
    missing: set[str] = set()
    environment = {**os.environ, "LD_LIBRARY_PATH": distribution.library_path()}
    for binary in distribution.binaries():
        listing = subprocess.run(
            ["ldd", binary], env=environment, capture_output=True, text=True, check=False
        ).stdout
        missing.update(re.findall(r"^\s*(\S+) => not found", listing, flags=re.MULTILINE))
    return [_library_problem(library) for library in sorted(missing)]


def _library_problem(library: str) -> str:
    package = _DEBIAN_PACKAGE.get(library)
    remedy = (
        f"on Debian: apt-get install {package}"
        if package
        else "install it or name its folder in LD_LIBRARY_PATH"
    )
    return f"Triton cannot load the shared library {library} ({remedy})."


def python_problems(profile: Profile) -> list[str]:
    """Python packages that the stages import, and the interpreter by which the stub finds them."""
    found = [
        f"Python package {package} is not installed beside spine-server; the stages import it."
        for package in _PACKAGES[profile]
        if importlib.util.find_spec(package) is None
    ]
    if not (interpreter_folder() / "python3").exists():
        found.append(
            f"{interpreter_folder()} has no python3, by which Triton's Python stub finds its packages."
        )
    return found


def log_problems(log_file: Path | None) -> list[str]:
    """Whether the log can be written where it is wanted; creates it."""
    try:
        if log_file is not None:
            log_file.open("a", encoding="utf-8").close()
    except OSError as error:
        return [f"Cannot write the log file {log_file} ({error.strerror}); choose another with --log-file."]
    return []


def shared_memory_problems(needed_bytes: int = MIN_SHARED_MEMORY_BYTES) -> list[str]:
    """Whether /dev/shm is there, writable and large enough."""
    if not os.access(SHARED_MEMORY, os.W_OK):
        return [f"{SHARED_MEMORY} is missing or not writable; Triton hands tensors to its stages through it."]
    status = os.statvfs(SHARED_MEMORY)
    free = status.f_bavail * status.f_frsize
    if free < needed_bytes:
        return [
            f"{SHARED_MEMORY} has {free // 2**20} MiB free, {needed_bytes // 2**20} MiB are needed; "
            "enlarge it (docker: --shm-size=2g; Kubernetes: an emptyDir of medium Memory with a sizeLimit)."
        ]
    return []
