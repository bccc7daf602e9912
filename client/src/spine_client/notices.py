"""Notices: what was dropped, reordered or assumed on the way, in place of silent repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Notice:
    """Something the caller should know although the work went on.

    `code` is stable and machine-readable; `message` is one sentence without any patient data. `files` are
    the paths concerned: they may carry names, so they are neither printed, logged nor saved.
    """

    code: str
    message: str
    files: tuple[Path, ...] = field(default=(), repr=False, compare=False)

    def to_dict(self) -> dict[str, str]:
        """As in the report's `warnings`."""
        return {"code": self.code, "message": self.message}


def notice(code: str, message: str, files: Sequence[Path] = ()) -> Notice:
    """A notice about `files`."""
    return Notice(code, message, tuple(files))
