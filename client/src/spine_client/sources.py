"""From whatever a caller has to a `Volume`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from spine_client.errors import InputError
from spine_client.nifti import is_nifti, read_nifti
from spine_client.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

PathLike: TypeAlias = "str | os.PathLike[str]"
Source: TypeAlias = (
    "Volume | PathLike | Sequence[PathLike | Dataset] | tuple[npt.NDArray[Any], npt.NDArray[Any]]"
)
"""A DICOM folder, file or list of files or datasets; a NIfTI file; voxels (Z, Y, X) with an affine (4, 4)
from (x, y, z, 1) to LPS mm; or a `Volume`."""


def load(source: Source, *, series: str | None = None) -> Volume:
    """Read `source`; `series` picks a DICOM series or stack by the id that `spine inspect` lists."""
    if isinstance(source, Volume):
        return source
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], np.ndarray):
        return Volume(source[0], np.asarray(source[1]))
    if isinstance(source, (str, os.PathLike)) and is_nifti(Path(source)):
        return _load_nifti(Path(source))
    if isinstance(source, (str, os.PathLike, list, tuple)):
        from spine_client.dicom import read_dicom

        return read_dicom(source, series=series)
    raise InputError(
        "source_type",
        "a source is a path, a list of files, (voxels, affine) or a Volume, not " + type(source).__name__,
    )


def _load_nifti(path: Path) -> Volume:
    if not path.is_file():
        raise InputError("no_such_path", "there is no such NIfTI file", files=[path])
    return read_nifti(path)
