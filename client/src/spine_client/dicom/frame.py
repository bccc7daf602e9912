"""One 2-D image of a DICOM file: the geometry and the few attributes by which images are grouped.

No element that names or describes a patient is in here, and none is read (see `HEADER_TAGS`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from spine_client.dicom.files import Origin

HEADER_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "Modality", "ImageType",
    "SeriesDescription", "ProtocolName", "EchoNumbers", "EchoTime", "TemporalPositionIdentifier",
    "AcquisitionNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "RescaleSlope", "RescaleIntercept", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
"""All that is ever read of a header."""


@dataclass(frozen=True)
class PixelFormat:
    """How stored values lie in their words (PS3.5 section 8.1)."""

    allocated: int
    stored: int
    high: int
    signed: bool
    inverted: bool
    """MONOCHROME1: small values are bright."""
    transfer_syntax: str

    @staticmethod
    def of(dataset: Dataset) -> PixelFormat:
        """Read from the image pixel module."""
        allocated = int(dataset.BitsAllocated)
        stored = int(dataset.get("BitsStored", allocated))
        meta = getattr(dataset, "file_meta", None) or Dataset()
        return PixelFormat(
            allocated=allocated,
            stored=stored,
            high=int(dataset.get("HighBit", stored - 1)),
            signed=bool(dataset.get("PixelRepresentation", 0)),
            inverted=str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1",
            transfer_syntax=str(meta.get("TransferSyntaxUID", "")),
        )


@dataclass(frozen=True)
class Frame:
    """One image. Lengths in mm, directions in LPS."""

    origin: Origin = field(repr=False)
    index: int
    """Which frame of the file, from 0."""
    sop_uid: str
    series_uid: str
    series_number: int | None
    rows: int
    columns: int
    position: tuple[float, ...]
    """Centre of the first pixel, (3,)."""
    orientation: tuple[float, ...]
    """Direction along a row, then along a column, (6,)."""
    spacing: tuple[float, ...]
    """Distance between rows, then between columns (PixelSpacing)."""
    echo_number: int | None
    echo_time_ms: float | None
    temporal: int | None
    acquisition: int | None
    image_type: tuple[str, ...]
    slope: float
    intercept: float
    pixels: PixelFormat
    description: str = field(repr=False)
    """Series description and protocol: matched for localizers, shown only on demand."""

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Unit normal of the image plane, row × column, LPS."""
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        normal = np.cross(row, column)
        return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def classic_frame(origin: Origin, dataset: Dataset) -> Frame:
    """The frame of a single-frame image. Raises AttributeError or ValueError where geometry is missing."""
    return Frame(
        origin=origin,
        index=0,
        position=floats(dataset.ImagePositionPatient, 3),
        orientation=floats(dataset.ImageOrientationPatient, 6),
        spacing=floats(dataset.PixelSpacing, 2),
        echo_number=optional_int(dataset.get("EchoNumbers")),
        echo_time_ms=optional_float(dataset.get("EchoTime")),
        temporal=optional_int(dataset.get("TemporalPositionIdentifier")),
        image_type=tuple(str(value) for value in dataset.get("ImageType") or ()),
        slope=optional_float(dataset.get("RescaleSlope"), 1.0),
        intercept=optional_float(dataset.get("RescaleIntercept"), 0.0),
        **common_attributes(dataset),
    )


def common_attributes(dataset: Dataset) -> dict[str, Any]:
    """What all frames of a file share."""
    return {
        "sop_uid": str(dataset.get("SOPInstanceUID", "")),
        "series_uid": str(dataset.get("SeriesInstanceUID", "")),
        "series_number": optional_int(dataset.get("SeriesNumber")),
        "rows": int(dataset.Rows),
        "columns": int(dataset.Columns),
        "acquisition": optional_int(dataset.get("AcquisitionNumber")),
        "pixels": PixelFormat.of(dataset),
        "description": f"{dataset.get('SeriesDescription', '')} {dataset.get('ProtocolName', '')}".strip(),
    }


def floats(value: Any, count: int) -> tuple[float, ...]:
    """`count` finite floats. Raises ValueError otherwise."""
    numbers = tuple(float(item) for item in value)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"expected {count} finite numbers")
    return numbers


def optional_int(value: Any) -> int | None:
    """First value as int; None for an absent or empty element."""
    value = _first(value)
    return None if value is None else int(value)


def optional_float(value: Any, default: float | None = None) -> Any:
    """First value as float; `default` for an absent or empty element."""
    value = _first(value)
    return default if value is None else float(value)


def _first(value: Any) -> Any:
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        value = value[0] if len(value) else None
    return None if value in (None, "") else value
