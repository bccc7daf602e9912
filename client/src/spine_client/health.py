"""What `health()` finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spine_client.volume import Volume

_CANARY_SHAPE_ZYX = (24, 32, 32)
_CANARY_SPACING_MM = 2.0


@dataclass(frozen=True)
class Health:
    """State of a server. `canary_s` is set by a deep check only: seconds for a small volume, end to end."""

    live: bool
    ready: bool
    model_ready: bool
    server_version: str | None = None
    canary_s: float | None = None
    problem: str | None = None
    supervisor: dict[str, Any] | None = None
    """What the server's supervisor tells after a deep check: status, restarts, reloads, last event. None
    where there is no supervisor, or a gate keeps it to itself."""

    @property
    def ok(self) -> bool:
        """Whether the server takes work; after a deep check, whether it has just done some."""
        return self.live and self.ready and self.model_ready and self.problem is None

    def to_dict(self) -> dict[str, Any]:
        """All fields and `ok`."""
        return {"ok": self.ok, **asdict(self)}


def canary_volume() -> Volume:
    """A shaded ball: no spine in it, small enough for one patch. Triton may call itself ready while a stage
    is dead; only an inference tells."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in _CANARY_SHAPE_ZYX), indexing="ij")
    ball = np.clip(1.2 - z**2 - y**2 - x**2, 0, None) * (600 + 200 * np.sin(7 * y))
    return Volume((40 + ball).astype(np.int16), np.diag([_CANARY_SPACING_MM] * 3 + [1.0]))
