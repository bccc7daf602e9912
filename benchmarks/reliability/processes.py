"""Processes of a server, from the outside; `spine_server.processes` knows its stages' own."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil


def tritonserver_below(pid: int) -> int | None:
    """The tritonserver that `pid` has started, directly or through a wrapper; None while there is none."""
    for child in (pid, *_descendants(pid)):
        words = _command_line(child)
        if words and Path(words[0]).name == "tritonserver":
            return child
    return None


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those of `pids` that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def alive(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def tree(pid: int) -> list[int]:
    """`pid` and all that descends from it."""
    return [pid, *_descendants(pid)]


def run_name(triton_pid: int) -> str:
    """What a tritonserver's shared memory regions begin with."""
    words = _command_line(triton_pid)
    return next(word.rpartition("=")[2] for word in words if "shm-region-prefix-name=" in word)


def _descendants(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _command_line(pid: int) -> list[str]:
    try:
        return list(psutil.Process(pid).cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
