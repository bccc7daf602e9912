"""Results on disk: one file per piece of work, so that a run may be stopped and taken up again.

``out/bench/pieces/<part>-<what>.json`` each hold the rounds so far; `join` makes ``bench.json`` of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
KIND = "spineserve.benchmark.speed"
PIECES, JOINED = "pieces", "bench.json"


@dataclass(frozen=True)
class Store:
    """The results folder."""

    folder: Path

    def read(self, part: str, what: str) -> dict[str, Any]:
        """A piece; empty where there is none yet."""
        path = self._path(part, what)
        return dict(json.loads(path.read_text())) if path.is_file() else {}

    def write(self, part: str, what: str, content: dict[str, Any]) -> None:
        """Write a piece in one step: whoever stops the run never leaves half a file."""
        path = self._path(part, what)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(content, indent=1) + "\n")
        aside.replace(path)

    def forget(self, part: str, what: str) -> None:
        """Remove a piece, so that it is measured anew."""
        self._path(part, what).unlink(missing_ok=True)

    def pieces(self, part: str) -> Iterator[dict[str, Any]]:
        """All pieces of a part, by name."""
        for path in sorted((self.folder / PIECES).glob(f"{part}-*.json")):
            yield json.loads(path.read_text())

    def join(self) -> dict[str, Any]:
        """Everything measured so far as one document, also written to ``bench.json``."""
        parts = {part: list(self.pieces(part)) for part in ("compare", "growth", "concurrency")}
        document = {"kind": KIND, "format": FORMAT, **parts}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / JOINED).write_text(json.dumps(document, indent=1) + "\n")
        return document

    def _path(self, part: str, what: str) -> Path:
        return self.folder / PIECES / f"{part}-{what}.json"
