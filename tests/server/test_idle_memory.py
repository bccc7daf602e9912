"""Freed memory stays with a stage that works, and goes back once it is idle."""

from __future__ import annotations

import ctypes
import queue
import subprocess
import sys
import threading
import time

import pytest

from spine_server.idle_memory import IdleMemory

_WORKER = """
import resource
from pathlib import Path
import numpy as np
from spine_server.idle_memory import give_back, keep_freed

def faults(work):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

def fill():  # 48 arrays of 1 MiB at a time, too small for huge pages
    return len([np.ones(2**17) for _ in range(48)])

keep_freed()
at_rest = resident_mib()
first, again = faults(fill), faults(fill)
kept = resident_mib() - at_rest
give_back()
print(first, again, kept, resident_mib() - at_rest)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="malloc is not glibc's")
def test_what_is_freed_is_used_again_without_a_fault_until_it_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _WORKER], check=True, capture_output=True, text=True)
    first, again, kept_mib, left_mib = map(float, done.stdout.split())
    assert first > 48 * 200 and again < 100
    assert kept_mib > 40 and left_mib < 8


def test_memory_is_given_back_once_after_the_last_of_several_requests() -> None:
    given: queue.Queue[float] = queue.Queue()
    idle = IdleMemory(lambda: given.put(time.monotonic()), after_s=0.2)
    for _ in range(4):
        with idle.working():
            time.sleep(0.01)
    ended = time.monotonic()
    assert given.get(timeout=10.0) - ended >= 0.19
    with pytest.raises(queue.Empty):
        given.get(timeout=0.5)


def test_closed_it_has_no_thread_left_and_gives_nothing_back() -> None:
    given = threading.Event()
    idle = IdleMemory(given.set, after_s=0.2)
    with idle.working():
        pass
    idle.close()
    assert not idle._thread.is_alive()
    assert not given.wait(0.5)


def test_nothing_is_given_back_while_a_request_is_answered() -> None:
    given = threading.Event()
    idle = IdleMemory(given.set, after_s=0.05)
    with pytest.raises(KeyError), idle.working():
        assert not given.wait(0.3)
        raise KeyError
    assert given.wait(10.0)
