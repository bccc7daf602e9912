"""DICOMDIR: the files that the index of a CD or an export lists (PS3.3 annex F, PS3.10 section 8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset

from spine_client.errors import InputError

_NAME = "DICOMDIR"


def is_directory(path: Path) -> bool:
    """Whether the file bears the name that the standard reserves for the index."""
    return path.name.upper() == _NAME


def files_listed_in(path: Path) -> list[Path]:
    """Paths of all objects that the DICOMDIR lists, whether they are there or not, in its order.

    Raises `InputError`: ``damaged_file``, ``unsafe_dicomdir`` (names that point outside of its folder),
    ``empty_dicomdir``.
    """
    try:
        records = pydicom.dcmread(path, specific_tags=["DirectoryRecordSequence"]).DirectoryRecordSequence
        names = [_components(record) for record in records if record.get("ReferencedFileID")]
    except Exception:  # whatever pydicom meets in damaged bytes
        message = "the DICOMDIR is damaged or none; give its folder instead"
        raise InputError("damaged_file", message, files=[path]) from None
    if not names:
        raise InputError("empty_dicomdir", "the DICOMDIR lists no file; give its folder", files=[path])
    if any(part in ("", ".", "..") or set(part) & set("/\\:") for parts in names for part in parts):
        raise InputError("unsafe_dicomdir", "the DICOMDIR lists files outside of its folder", files=[path])
    return [_find(path.parent, parts) for parts in names]


def _components(record: Dataset) -> list[str]:
    value: Any = record.ReferencedFileID
    return [value] if isinstance(value, str) else [str(part) for part in value]


def _find(folder: Path, parts: list[str]) -> Path:
    """The file as it is written on this disk: names on CDs are upper case, mounted ones often lower."""
    path = folder.joinpath(*parts)
    if path.exists():
        return path
    found = folder
    for part in parts:
        names = found.iterdir() if found.is_dir() else ()
        found = next((item for item in names if item.name.upper() == part.upper()), found / part)
    return found
