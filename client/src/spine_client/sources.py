"""From whatever a caller has to a `Volume`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from spine_client.dicomweb import RemoteSeries, is_address, remote_series
from spine_client.errors import InputError
from spine_client.itk import is_itk, read_itk
from spine_client.nifti import is_nifti, read_nifti
from spine_client.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

    from spine_client.dicom.files import DicomSource

PathLike: TypeAlias = "str | os.PathLike[str]"
Source: TypeAlias = (
    "Volume | PathLike | Dataset | Sequence[PathLike | Dataset] | RemoteSeries | "
    "tuple[npt.NDArray[Any], npt.NDArray[Any]]"
)
"""A DICOM folder, file, zip archive or DICOMDIR, a list of files or datasets; a ``dicomweb://`` address or
`Pacs.series`; a NIfTI, NRRD or MetaImage file; voxels (Z, Y, X) with an affine (4, 4) from (x, y, z, 1) to
LPS mm; or a `Volume`."""


def load(source: Source, *, series: str | None = None, timeout_s: float | None = None) -> Volume:
    """Read `source`; `series` picks a DICOM series or stack by the id that `spine inspect` lists.

    `timeout_s` limits what a PACS may take; local files are read without a limit.
    """
    if isinstance(source, Volume):
        return source
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], np.ndarray):
        return Volume(source[0], np.asarray(source[1]))
    if isinstance(source, (str, os.PathLike)) and not is_address(source):
        return _load_path(Path(source), series)
    from spine_client.dicom import read_dicom

    return read_dicom(dicom_source(source, series=series, timeout_s=timeout_s), series=series)


def dicom_source(source: Source, *, series: str | None = None, timeout_s: float | None = None) -> DicomSource:
    """A source of DICOM images, fetched first if a PACS holds it. Raises `InputError` for any other."""
    from pydicom import Dataset

    if isinstance(source, str) and is_address(source):
        source = remote_series(source)
    if isinstance(source, RemoteSeries):
        return source.fetch(series, timeout_s=timeout_s)
    if isinstance(source, (str, os.PathLike, Dataset)):
        return source
    if isinstance(source, (list, tuple)) and not any(isinstance(item, np.ndarray) for item in source):
        return source
    raise InputError(
        "source_type",
        "a source is a path, a list of files, (voxels, affine), an address or a Volume, not "
        + type(source).__name__,
    )


def is_volume_file(path: Path) -> bool:
    """Whether the file name says that the file holds one volume: NIfTI, NRRD or MetaImage."""
    return is_nifti(path) or is_itk(path)


def is_study_file(path: Path) -> bool:
    """Whether the file name says that the file is a study by itself: a volume, or a zip archive of DICOM."""
    return is_volume_file(path) or path.suffix.lower() == ".zip"


def _load_path(path: Path, series: str | None) -> Volume:
    if not is_volume_file(path) or path.is_dir():
        from spine_client.dicom import read_dicom

        return read_dicom(path, series=series)
    if not path.is_file():
        raise InputError("no_such_path", "there is no such file", files=[path])
    return read_nifti(path) if is_nifti(path) else read_itk(path)
