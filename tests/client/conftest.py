"""Fixtures of the client's tests. Helpers live in `support/`, which is put on the import path here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))

from fake_triton import QUICK, Behaviour, FakeTriton, start

from spine_client import SpineClient, Volume


@pytest.fixture
def volume() -> Volume:
    """A small volume, (4, 6, 5), 4 × 1.5 × 0.5 mm."""
    voxels = np.arange(120, dtype=np.int16).reshape(4, 6, 5)
    return Volume(voxels, np.diag([0.5, 1.5, 4.0, 1.0]))


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[FakeTriton, SpineClient]]]:
    """`serve(behaviour, …)` starts a fake Triton and a client that is connected to it."""
    opened = []

    def begin(*behaviours: Behaviour, **settings: object) -> tuple[FakeTriton, SpineClient]:
        servicer = FakeTriton(*behaviours)
        server, port = start(servicer)
        servicer.url, servicer.server = f"127.0.0.1:{port}", server
        client = SpineClient(f"127.0.0.1:{port}", **{"timeout_s": 10.0, "retry": QUICK, **settings})
        opened.append((server, client))
        return servicer, client

    yield begin
    for server, client in opened:
        client.close()
        server.stop(None)
