"""Whether anyone still waits for a request, as the stages tell one another.

Triton's ensemble does not pass a cancel on to a step that runs, nor say how much of its time is left.
So the first stage notes the request's deadline in a small file that all stages of this server see; the model
`attendant` strikes it out when the gate or the SDK says that the caller has left; a long stage looks at it
between two patches. Each attempt notes its deadline anew, so a cancel counts for the attempts before it only.

Clocks are `time.monotonic`, which all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

RUN_FOLDER_VARIABLE = "SPINESERVE_RUN_FOLDER"
_FOLDER = "requests"
_LEFT = "left"
_KEPT_S = 3600.0
"""A note of a request that never came to its end is swept away after this."""


def run_folder() -> Path:
    """Where the stages of this server keep what they tell one another: all are children of one Triton."""
    named = os.environ.get(RUN_FOLDER_VARIABLE)
    return Path(named) if named else Path(tempfile.gettempdir()) / f"spineserve-stages-{os.getppid()}"


class Callers:
    """The notes about requests; `request_id` must be fit for a file name (`wire_errors.safe_request_id`)."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or run_folder()
        self._folder = self.folder / _FOLDER
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def expects(self, request_id: str, timeout_us: int) -> None:
        """Note that a caller waits for `request_id`, from now on for so long (0: for ever)."""
        self._sweep()
        until = time.monotonic() + timeout_us / 1e6 if timeout_us > 0 else float("inf")
        if (note := self._note(request_id)) is not None:
            _write(note, repr(until))

    def left(self, request_id: str) -> bool:
        """Strike a request out; False if it is not known here."""
        note = self._note(request_id)
        if note is None or not note.exists():
            return False
        _write(note, _LEFT)
        return True

    def gave_up(self, request_id: str) -> bool:
        """Whether the caller has left or its time is over."""
        note = self._note(request_id)
        try:
            text = note.read_text(encoding="ascii") if note else ""
        except OSError:
            return False
        return text == _LEFT or (bool(text) and time.monotonic() > float(text))

    def done(self, request_id: str) -> None:
        """Forget a request that has been answered."""
        if (note := self._note(request_id)) is not None:
            note.unlink(missing_ok=True)

    def _note(self, request_id: str) -> Path | None:
        name = request_id.replace("/", "_").lstrip(".")
        return self._folder / name if name else None

    def _sweep(self) -> None:
        oldest = time.time() - _KEPT_S
        for note in self._folder.iterdir():
            with contextlib.suppress(OSError):
                if note.stat().st_mtime < oldest:
                    note.unlink()


def _write(note: Path, text: str) -> None:
    partial = note.with_name(f".{note.name}.{os.getpid()}")
    partial.write_text(text, encoding="ascii")
    partial.replace(note)
