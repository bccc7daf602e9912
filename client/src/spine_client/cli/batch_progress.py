"""How far a batch has come: a bar on a terminal, one line per study elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TextIO

from spine_client.errors import SpineClientError

_WIDTH = 30
_CLEAR_LINE = "\r\x1b[2K"


class BatchProgress:
    """Counts studies. Failures are always told in a line of their own."""

    def __init__(self, stream: TextIO, total: int, silent: bool) -> None:
        self._stream = stream
        self._total = total
        self._silent = silent
        self._moving = stream.isatty()
        self._count = 0
        self._skipped = 0
        self._started = time.monotonic()

    def __enter__(self) -> BatchProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._moving and not self._silent:
            self._write(_CLEAR_LINE)

    def skipped(self, count: int) -> None:
        """`count` studies were there from an earlier run."""
        self._count = self._skipped = count
        if count and not self._silent:
            self._write(f"{count} of {self._total} studies are done already\n")
        self._draw()

    def done(self, name: str, error: SpineClientError | None) -> None:
        """One study is over."""
        self._count += 1
        if self._silent:
            return
        if error is not None or not self._moving:
            clear = _CLEAR_LINE if self._moving else ""
            outcome = "done" if error is None else str(error)
            self._write(f"{clear}[{self._count}/{self._total}] {name}: {outcome}\n")
        self._draw()

    def _draw(self) -> None:
        if self._silent or not self._moving:
            return
        filled = round(_WIDTH * self._count / self._total)
        bar = "━" * filled + "─" * (_WIDTH - filled)
        self._write(f"{_CLEAR_LINE}{bar} {self._count}/{self._total}{self._remaining()}")

    def _remaining(self) -> str:
        worked = self._count - self._skipped
        if not worked:
            return ""
        seconds = (time.monotonic() - self._started) / worked * (self._total - self._count)
        return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
