"""Hashes and JSON files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from spinecore.errors import ModelError

_CHUNK = 2**20


def sha256(content: bytes | Path) -> str:
    """Hexadecimal SHA-256 of bytes or of a file's content, as the descriptions beside the models state it."""
    digest = hashlib.sha256()
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def read_json(path: Path, *, expected: str = "an nnU-Net results folder") -> dict[str, Any]:
    """A JSON object from disk; ModelError says what is wrong."""
    try:
        content = json.loads(path.read_bytes())
    except OSError:
        raise ModelError(f"{path.name} is missing or unreadable; expected {expected}.") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} must hold a JSON object.")
    return content
