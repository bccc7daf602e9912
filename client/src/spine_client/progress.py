"""What `on_progress` is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Progress:
    """Where an analysis stands. Called a few times per second, from the thread that called `analyze`."""

    stage: Literal["reading", "waiting", "retrying", "done"]
    elapsed_s: float
    attempt: int = 1
