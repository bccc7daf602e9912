"""How much memory one study may take on this machine, so that all that run at once fit into it together."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "SPINESERVE_STUDY_MEMORY_MIB"
"""Set it to give one study another share, in MiB."""
STUDIES_AT_ONCE = 4
"""One each in `preprocess` and `identify`, two in `segment`."""
RESERVED_BYTES = 2 * 2**30
"""For Triton, the networks, and what waits in queues; at most half of what there is."""
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def study_memory_bytes() -> int:
    """What one study may take: named by `VARIABLE`, else its share of the container's or machine's memory."""
    if (named := os.environ.get(VARIABLE, "")).isdecimal() and int(named) > 0:
        return int(named) * 2**20
    total = min([_machine_bytes(), *_container_bytes()])
    return (total - min(RESERVED_BYTES, total // 2)) // STUDIES_AT_ONCE


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container_bytes() -> list[int]:
    """The control group's limit, where there is one."""
    limits = []
    for path in _CGROUP_LIMITS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            limits.append(int(text))
    return limits
