"""Which files a DICOM source means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pydicom import Dataset

from spine_client.dicom.archive import ArchiveMember, is_archive, members_of
from spine_client.dicom.directory import files_listed_in, is_directory
from spine_client.errors import InputError

DicomSource: TypeAlias = "str | os.PathLike[str] | Dataset | Sequence[str | os.PathLike[str] | Dataset]"
"""A folder (with all its subfolders), file, zip archive or DICOMDIR, a dataset, or a list of them."""

Origin: TypeAlias = "Path | ArchiveMember | Dataset"
"""Where one image comes from."""


def find_origins(source: DicomSource) -> list[Origin]:
    """Files and datasets of the source, in a fixed order. Raises `InputError` if there is none."""
    if isinstance(source, (str, os.PathLike)):
        return _origins_at(Path(source))
    given: Sequence[Any] = [source] if isinstance(source, Dataset) else source
    items = [item if isinstance(item, Dataset) else Path(item) for item in given]
    missing = [item for item in items if isinstance(item, Path) and not item.is_file()]
    if missing:
        raise InputError("no_such_path", f"{len(missing)} of the files given do not exist", files=missing)
    if not items:
        raise InputError("empty_source", "the list of files is empty")
    origins: list[Origin] = []
    for item in items:
        origins.extend([item] if isinstance(item, Dataset) else _origins_at(item))
    return origins


def paths_of(origins: Sequence[Origin]) -> list[Path]:
    """The paths among the origins, each once; of what lies in an archive the archive's."""
    paths = [origin if isinstance(origin, Path) else origin.path
             for origin in origins if not isinstance(origin, Dataset)]  # fmt: skip
    return list(dict.fromkeys(paths))


def _origins_at(path: Path) -> list[Origin]:
    if path.is_file():
        if is_directory(path):
            return [*files_listed_in(path)]
        return [*members_of(path)] if is_archive(path) else [path]
    if not path.is_dir():
        raise InputError("no_such_path", "there is no such file or folder", files=[path])
    files = sorted(item for item in path.rglob("*") if item.is_file())
    if not files:
        raise InputError("empty_folder", "the folder and its subfolders hold no file", files=[path])
    return [*files]
