"""The source images of a result, as the DICOM objects written about it need them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset

from spine_client.dicom.files import Origin, paths_of
from spine_client.dicom.frame import Frame
from spine_client.errors import InputError
from spine_client.result import SpineResult

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True, eq=False)
class SourceImages:
    """The datasets, without pixels, and the labels in their order of frames."""

    datasets: tuple[Dataset, ...]
    labels: npt.NDArray[np.uint8]
    """(frames, rows, columns); frames of a multi-frame file that were not analysed are empty."""


def source_images(result: SpineResult) -> SourceImages:
    """Read the headers of the source again. Raises `InputError` for a source that is no DICOM series."""
    frames: tuple[Frame, ...] = result.volume.frames
    if not frames:
        raise InputError("no_dicom_source", "DICOM can be written about DICOM only; choose other formats")
    first = _read(frames[0].origin)
    if "PerFrameFunctionalGroupsSequence" not in first:
        datasets = (first, *(_read(frame.origin) for frame in frames[1:]))
        return SourceImages(tuple(map(_checked, datasets)), result.labels)
    if len({frame.sop_uid for frame in frames}) > 1:
        raise InputError("several_multiframes", "a series of several multi-frame files cannot be referenced")
    return SourceImages((_checked(first),), _in_file_order(result.labels, frames, int(first.NumberOfFrames)))


def _read(origin: Origin) -> Dataset:
    if isinstance(origin, Dataset):
        return origin
    try:
        with origin.open("rb") as stream:
            return pydicom.dcmread(stream, stop_before_pixels=True)
    except (OSError, zipfile.BadZipFile, pydicom.errors.InvalidDicomError):
        message = "a source file cannot be read any more; DICOM is written from the source files"
        raise InputError("source_gone", message, files=paths_of([origin])) from None


def _checked(dataset: Dataset) -> Dataset:
    missing = [name for name in _NEEDED if not dataset.get(name)]
    if missing:
        raise InputError("incomplete_source", f"the source images lack {', '.join(missing)}")
    return dataset


def _in_file_order(
    labels: npt.NDArray[np.uint8], frames: tuple[Frame, ...], count: int
) -> npt.NDArray[np.uint8]:
    ordered = np.zeros((count, *labels.shape[1:]), np.uint8)
    ordered[[frame.index for frame in frames]] = labels
    return ordered
