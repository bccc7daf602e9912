"""Threads for the parts of a volume that are worked on alike: numpy and scipy let go of Python meanwhile."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MOST_THREADS = 8
"""The work is bound by memory: more threads than this gain nothing and cost scratch space."""


def thread_count() -> int:
    """Threads that work at a time: the cores this process may use, at most eight."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The pool of a process: a forked child must not wait for its parent's threads."""
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="spinecore")


def parts_of(count: int) -> list[slice]:
    """So many things cut into a part for each thread, as even as can be."""
    parts = min(count, thread_count())
    bounds = [count * number // parts for number in range(parts + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


def each_of(work: Callable[[T], R], parts: Iterable[T]) -> list[R]:
    """What `work` gives for every part, in their order; as `for_each`."""
    waiting = list(parts)
    found: dict[int, R] = {}

    def keep(number: int) -> None:
        found[number] = work(waiting[number])

    for_each(keep, range(len(waiting)))
    return [found[number] for number in range(len(waiting))]


def for_each(work: Callable[[T], object], parts: Iterable[T]) -> None:
    """Call `work` for every part, several at a time; the first error is raised when all have ended.

    No part may write where another reads or writes, so that the answer never depends on the threads. `work`
    must not call `for_each` itself.
    """
    waiting = list(parts)
    if len(waiting) < 2 or thread_count() < 2:
        for part in waiting:
            work(part)
        return
    running = [_pool(os.getpid()).submit(work, part) for part in waiting]
    errors = [error for future in running if (error := future.exception()) is not None]
    if errors:
        raise errors[0]
