"""DICOM out: the label map as a segmentation, the measurements as a structured report.

Both carry the patient and study of the source images, as DICOM demands: they are written on the caller's
machine, from the caller's files, and only when asked for.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from spine_client.errors import MissingExtra
from spine_client.result import SpineResult

if TYPE_CHECKING:
    from pydicom import Dataset


def dicom_objects(result: SpineResult) -> list[Dataset]:
    """Segmentation and structured report of `result`, to be stored in a PACS; see the writers below."""
    _require_highdicom()
    from spine_client.dicom_out.measurements import build_measurements
    from spine_client.dicom_out.segmentation import build_segmentation

    return [build_segmentation(result), build_measurements(result)]


def write_segmentation(result: SpineResult, path: Path) -> None:
    """Write a BINARY segmentation with one coded segment per structure (PS3.3 section A.51)."""
    _require_highdicom()
    from spine_client.dicom_out.segmentation import build_segmentation

    build_segmentation(result).save_as(path)


def write_measurements(result: SpineResult, path: Path) -> None:
    """Write a Comprehensive 3D SR by TID 1500 that references the segmentation and the source images."""
    _require_highdicom()
    from spine_client.dicom_out.measurements import build_measurements

    build_measurements(result).save_as(path)


def _require_highdicom() -> ModuleType:
    try:
        import highdicom
    except ImportError:
        raise MissingExtra("dicom", "Writing DICOM") from None
    return highdicom
