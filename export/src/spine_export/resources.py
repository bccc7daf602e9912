"""Seconds and peak memory of a piece of work in this process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class Usage:
    """Filled in when the work is done: `seconds`, and `peak_mb` above the start; None where unknown."""

    seconds: float = 0.0
    peak_mb: float | None = None


@contextlib.contextmanager
def measured() -> Iterator[Usage]:
    """Measure the body of a with statement. The memory's high-water mark is Linux's own, reset beforehand."""
    usage = Usage()
    start_kb = _reset_peak()
    began = time.perf_counter()
    try:
        yield usage
    finally:
        usage.seconds = time.perf_counter() - began
        peak_kb = _status_kb("VmHWM")
        if start_kb is not None and peak_kb is not None:
            usage.peak_mb = max(0, peak_kb - start_kb) / 1024


def _reset_peak() -> int | None:
    """Kilobytes in use, with the high-water mark set back to them; None where the kernel does not let us."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return None
    return _status_kb("VmRSS")


def _status_kb(key: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), None)
