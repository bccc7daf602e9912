"""What moves on standard error while the server works."""

from __future__ import annotations

from types import TracebackType
from typing import TextIO

from spine_client.progress import Progress

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_WORDS = {
    "reading": "reading the images",
    "waiting": "analysing on the server",
    "retrying": "server not ready, trying again",
    "done": "done",
}
_CLEAR_LINE = "\r\x1b[2K"


class WaitingLine:
    """A spinner with the time elapsed on a terminal; elsewhere one plain line per stage."""

    def __init__(self, stream: TextIO, *, silent: bool = False) -> None:
        self._stream = stream
        self._silent = silent
        self._moving = stream.isatty()
        self._last_stage = ""
        self._ticks = 0

    def __enter__(self) -> WaitingLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._moving and self._ticks and not self._silent:
            self._write(_CLEAR_LINE)

    def __call__(self, progress: Progress) -> None:
        """Show where the analysis stands."""
        if self._silent:
            return
        text = _WORDS[progress.stage]
        if progress.attempt > 1 and progress.stage != "done":
            text += f" (attempt {progress.attempt})"
        if self._moving:
            frame = _FRAMES[self._ticks % len(_FRAMES)]
            self._ticks += 1
            self._write(f"{_CLEAR_LINE}{frame} {text} … {progress.elapsed_s:.0f} s")
        elif text != self._last_stage:
            self._last_stage = text
            self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
