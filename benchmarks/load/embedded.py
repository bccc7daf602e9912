"""A server of this machine for the length of a run: `spine-server` with its supervisor, on free ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reliability.replica import Replica

START_S = 400.0


@contextmanager
def embedded_server(folder: Path) -> Iterator[Replica]:
    """Ready inside the block, gone after it; its log is in `folder`."""
    replica = Replica(0, folder)
    try:
        replica.start()
        replica.wait_ready(START_S)
        yield replica
    finally:
        replica.stop()
