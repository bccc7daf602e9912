"""Memory of a tree of processes: proportional set size (PSS), in which what processes share counts once."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

import psutil

INTERVAL_S = 0.05


def tree_mib(pid: int) -> float:
    """PSS of `pid` and all its descendants, MiB; what ends meanwhile counts nothing."""
    try:
        pids = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_pss_kib(each) for each in pids) / 1024


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class PeakMemory:
    """Samples a tree from a thread of its own during a with statement: `peak_mib`, `start_mib`.

    A sample walks page tables and takes milliseconds per GiB: rounds that are timed run without it.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.start_mib = self.peak_mib = tree_mib(pid)

    def _sample(self) -> None:
        while not self._done.wait(INTERVAL_S):
            self.peak_mib = max(self.peak_mib, tree_mib(self._pid))

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
