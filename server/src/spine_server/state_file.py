"""The supervisor's state as a file, from which the model `attendant` answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STATE_FILE = "state.json"


def read_state(run_folder: Path) -> dict[str, Any]:
    """What the supervisor wrote last; ``{"supervised": False}`` where there is none."""
    try:
        state: dict[str, Any] = json.loads((run_folder / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"supervised": False}
    return state
