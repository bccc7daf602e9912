"""The C library's heap: what a process has freed, but not given back to the machine."""

from __future__ import annotations

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone


def give_back_memory() -> None:
    """Hand what was freed in malloc's arenas back to the machine; milliseconds.

    glibc keeps the arrays of a volume, tens of MiB each, for the next one.
    """
    if _trim is not None:
        _trim(0)
