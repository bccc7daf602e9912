"""Passes Triton's output on and remembers only its end, to explain a failure with Triton's own words."""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO

from spine_server.json_log import json_line

KEPT_LINES = 400
SHOWN_LINES = 8

_MEANINGFUL = re.compile(r"\berror\b|exception|failed|cannot|unable|not found|no such|denied", re.IGNORECASE)
_NOISE = re.compile(r"Cuda|DCGM|pinned (system )?memory|nvml|^Signal \(15\) received", re.IGNORECASE)
"""What Triton says on every machine without a GPU, and at every stop."""
_HINTS = (
    (r"address already in use|Socket '.*' already in use", "A port was taken meanwhile; choose another."),
    (r"No module named '?(\w+)", "A stage lacks a Python package: install it beside spine-server."),
    (
        r"libpython|cannot open shared object",
        "A shared library is missing: ldd on the named file says which.",
    ),
    (r"No space left|Failed to initialize .*shm|shared memory", "/dev/shm is full or too small: enlarge it."),
    (
        r"Timed out occurred while waiting for the stub",
        "A stage took too long to import: is the machine overloaded?",
    ),
    (
        r"Invalid argument.*backend|unable to find backend",
        "The profile's backend is missing: is --profile right?",
    ),
)


class OutputTail:
    """Reads a stream to its end in a thread: passes its lines on, keeps the last few hundred.

    With `quiet`, what Triton says on every machine without a GPU is kept, but not passed on.
    With `as_json` each line is passed on as a JSON object.
    """

    def __init__(self, stream: IO[str], log_file: Path | None, *, quiet: bool, as_json: bool = False) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._stream = stream
        self._quiet = quiet
        self._as_json = as_json
        self._log = log_file.open("a", encoding="utf-8", buffering=1) if log_file else None
        self._thread = threading.Thread(target=self._pump, name="triton-output", daemon=True)
        self._thread.start()

    def _pump(self) -> None:
        for line in self._stream:
            self._lines.append(line.rstrip("\n"))
            if self._quiet and _NOISE.search(line):
                continue
            shown = f"{json_line(line)}\n" if self._as_json else line
            print(shown, end="", file=self._log or sys.stderr, flush=True)

    def close(self) -> None:
        """Wait for the end of the stream, which comes when the last process that writes to it is gone."""
        self._thread.join(timeout=5.0)
        if self._log and not self._thread.is_alive():
            self._log.close()

    def explanation(self) -> str:
        """Triton's last meaningful lines, and what to do about them where that is known."""
        return explain(list(self._lines))


def explain(lines: list[str]) -> str:
    """The last lines of a log that tell of a failure, followed by a hint for the first known one."""
    telling = [line for line in lines if _MEANINGFUL.search(line) and not _NOISE.search(line)] or lines
    shown = "\n".join(f"  {line}" for line in telling[-SHOWN_LINES:])
    text = "\n".join(telling)
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, text, re.IGNORECASE)), None)
    return shown if hint is None else f"{shown}\nHint: {hint}"
