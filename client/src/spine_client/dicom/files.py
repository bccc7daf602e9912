"""Which files a DICOM source means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from pydicom import Dataset

from spine_client.errors import InputError

DicomSource: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str] | Dataset]"
"""A folder (searched with all its subfolders), one file, or a list of files and pydicom datasets."""

Origin: TypeAlias = "Path | Dataset"
"""Where one image comes from."""


def find_origins(source: DicomSource) -> list[Origin]:
    """Files and datasets of the source, in a fixed order. Raises `InputError` if there is none."""
    if isinstance(source, (str, os.PathLike)):
        return list(_files_of(Path(source)))
    origins: list[Origin] = [item if isinstance(item, Dataset) else Path(item) for item in source]
    missing = [item for item in origins if isinstance(item, Path) and not item.is_file()]
    if missing:
        raise InputError("no_such_path", f"{len(missing)} of the files given do not exist", files=missing)
    if not origins:
        raise InputError("empty_source", "the list of files is empty")
    return origins


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError("no_such_path", "there is no such file or folder", files=[path])
    files = sorted(item for item in path.rglob("*") if item.is_file())
    if not files:
        raise InputError("empty_folder", "the folder and its subfolders hold no file", files=[path])
    return files
