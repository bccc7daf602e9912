"""Keeps a process's freed memory for the next array while it works, and gives it back once it is idle.

A page that the machine took back comes again with a fault, and zeroed. One volume asks a stage for the same
large arrays many times over, which was up to 15,000 faults and as much time as all of our own arithmetic
(benchmarks/FINDINGS.md, Memory); kept for good, they would be some 100 MiB in each stage.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

AFTER_S = 0.1
"""Idle for so long, a stage has no next request waiting; sooner than the next stage has filled its arrays."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _NEVER = -1, -3, 2**30  # glibc's mallopt


def keep_freed() -> None:
    """Let malloc keep what this process frees, arrays of any size; nothing where it is not glibc's."""
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_MMAP_THRESHOLD, _NEVER)
        option(_TRIM_THRESHOLD, _NEVER)


def give_back() -> None:
    """Hand all free pages of malloc back to the machine; nothing where it is not glibc's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class IdleMemory:
    """Calls `action` once, `after_s` after the last `with idle.working():` has ended and no other begun.

    `close` ends its thread: none should be in malloc while the process ends.
    """

    def __init__(self, action: Callable[[], None] = give_back, *, after_s: float = AFTER_S) -> None:
        self._action, self._after_s = action, after_s
        self._changed = threading.Condition()
        self._due_s: float | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="idle memory", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; what is kept then goes with the process."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    @contextmanager
    def working(self) -> Iterator[None]:
        """A request is being answered; one at a time."""
        with self._changed:
            self._due_s = None
        try:
            yield
        finally:
            with self._changed:
                self._due_s = time.monotonic() + self._after_s
                self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._due_s is not None)
                if self._closed:
                    return
                left_s = (self._due_s or 0.0) - time.monotonic()
                if left_s > 0:
                    self._changed.wait(left_s)
                    continue
                self._due_s = None
            self._action()
