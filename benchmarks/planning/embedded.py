"""Embedded servers, each on a core of its own, so that two of them are twice the capacity."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from reliability.replica import Replica

from planning.service import TRITON
from spine_server.processes import stubs_of

START_S = 300.0


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """What this thread starts in the block runs on `cores` alone, and so does this thread."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def embedded(cores: Sequence[Sequence[int]], folder: Path) -> Iterator[tuple[list[Replica], list[float]]]:
    """Running servers, one for each group of cores, and the seconds that each took to start.

    `folder` must be new: the servers' logs go there.
    """
    replicas, took_s = [], []
    try:
        for number, group in enumerate(cores):
            replica, began = Replica(number, folder), time.monotonic()
            with on_cores(group):
                replicas.append(replica)
                replica.start()
                replica.wait_ready(START_S)
            took_s.append(time.monotonic() - began)
        yield replicas, took_s
    finally:
        for replica in replicas:
            replica.stop()


def address(replica: Replica) -> str:
    """Where it listens."""
    return f"127.0.0.1:{replica.port}"


def usage(replica: Replica) -> dict[str, float]:
    """Core-seconds so far of each model's processes, and of Triton itself."""
    own = psutil.Process(replica.triton).cpu_times()
    seconds = {TRITON: own.user + own.system}
    for stub in stubs_of(replica.triton):
        times = psutil.Process(stub.pid).cpu_times()
        seconds[stub.model] = seconds.get(stub.model, 0.0) + times.user + times.system
    return seconds
