"""Two dozen requests, good, broken and given up: afterwards the server holds no more than before.

`make soak` is the long form.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from reliability.soak import HANDLES, MEMORY_MIB, SHARED_MIB, look

from spine_server import EmbeddedTriton

from .conftest import Ask

Tensors = dict[str, NDArray[Any]]


def a_round(ask: Ask, good: Tensors) -> None:
    """One volume answered, three refused, one given up in the middle."""
    ask("spine_mri", good)
    for broken in (
        {"SHAPE": np.zeros(4, np.int64)},
        {"VOLUME": good["VOLUME"][:-2]},
        {"AFFINE": np.zeros(16)},
    ):
        ask.refused("spine_mri", {**good, **broken})
    given_up = ask.stub.ModelInfer.future(ask.request("spine_mri", good), timeout=60)
    given_up.cancel()
    with pytest.raises(grpc.FutureCancelledError):
        given_up.result()


def test_nothing_grows(ask: Ask, server: EmbeddedTriton, good: Tensors) -> None:
    assert server.pid is not None
    for _ in range(2):
        a_round(ask, good)
    ask("spine_mri", good)
    before = look(server.pid, server.pid)
    assert before.shared_mib > 1.0 and len(before.memory_mib) >= 8
    for _ in range(5):
        a_round(ask, good)
    ask("spine_mri", good)  # what was given up is over by now: stages answer in turn
    after = look(server.pid, server.pid)
    assert after.memory_mib.keys() == before.memory_mib.keys()
    for name, memory in after.memory_mib.items():
        assert memory - before.memory_mib[name] < MEMORY_MIB, name
    assert sum(after.handles.values()) - sum(before.handles.values()) <= HANDLES
    assert after.shared_mib - before.shared_mib <= SHARED_MIB
