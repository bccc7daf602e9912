"""Puts exported files into Triton's model repository, in one step per version folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

VERSION = "1"


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256, as the descriptions beside the models state it."""
    return hashlib.sha256(content).hexdigest()


def place(repository: Path, model: str, files: Mapping[str, bytes]) -> Path:
    """Write `files` as ``<repository>/<model>/1/…`` and return that folder.

    Everything is written to a folder aside first; then each file replaces its predecessor by a rename, the
    description after the network it describes. A reader sees whole files only.
    """
    folder = repository / model / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as aside:
        for name, content in files.items():
            (Path(aside) / name).write_bytes(content)
        for name in files:
            os.replace(Path(aside) / name, folder / name)
    return folder
