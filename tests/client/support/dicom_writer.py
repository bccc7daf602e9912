"""Writes small DICOM MR series for tests: one sagittal series, bent in whatever way a test needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

ROWS, COLUMNS, SLICES = 12, 10, 6
PIXEL_SPACING = (1.5, 0.5)
"""Between rows, between columns."""
SLICE_STEP_MM = 4.0
ORIGIN = (-10.0, -20.0, 30.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)

Edit = Callable[[Dataset, int], None]


def stored_values(index: int) -> np.ndarray:
    """Pixels of slice `index`: every one different, so that a mix-up shows."""
    return (np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) + 1000 * index).astype(np.int16)


def expected_voxels() -> np.ndarray:
    """The whole series, (Z, Y, X)."""
    return np.stack([stored_values(i) for i in range(SLICES)])


def normal(orientation: Sequence[float]) -> np.ndarray:
    """row × column."""
    return np.cross(orientation[:3], orientation[3:])


def make_slice(
    index: int, *, orientation: Sequence[float] = SAGITTAL, series_uid: str | None = None
) -> FileDataset:
    """Slice `index` of a regular series, with pixel data."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.SeriesInstanceUID = series_uid or "1.2.826.0.1.3680043.8.498.1"
    image.SeriesNumber, image.InstanceNumber = 3, SLICES - index
    image.Modality, image.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M"]
    image.EchoTime = 90.0
    image.ImageOrientationPatient = list(orientation)
    image.ImagePositionPatient = [float(v) for v in ORIGIN + index * SLICE_STEP_MM * normal(orientation)]
    image.PixelSpacing = list(PIXEL_SPACING)
    image.SliceThickness, image.SpacingBetweenSlices = 3.0, 99.0  # must not be believed
    set_pixels(image, stored_values(index))
    return image


def set_pixels(image: Dataset, pixels: np.ndarray) -> None:
    """Pixel data and the elements that describe them."""
    image.Rows, image.Columns = pixels.shape[-2:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * pixels.dtype.itemsize
    image.BitsAllocated, image.BitsStored, image.HighBit = bits, bits, bits - 1
    image.PixelRepresentation = int(pixels.dtype.kind == "i")
    image.PixelData = pixels.tobytes()


def write_series(
    folder: Path,
    *,
    edit: Edit | None = None,
    skip: Sequence[int] = (),
    orientation: Sequence[float] = SAGITTAL,
    series_uid: str | None = None,
    prefix: str = "IM",
) -> list[Path]:
    """Write the series, file names in meaningless order; `edit(slice, index)` changes each slice."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(SLICES):
        if index in skip:
            continue
        image = make_slice(index, orientation=orientation, series_uid=series_uid)
        if edit is not None:
            edit(image, index)
        path = folder / f"{prefix}{(index * 5) % 7:03d}"
        image.save_as(path)
        paths.append(path)
    return paths


def write_disk(folder: Path) -> None:
    """The series as a file set on a CD: DICOMDIR and the files that it lists."""

    def identify(image: Dataset, index: int) -> None:
        image.PatientID, image.PatientName, image.StudyInstanceUID = "P1", "A^B", "1.2.99"
        image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = (
            "20200101",
            "120000",
            "1",
            "1",
        )

    file_set = FileSet()
    for path in write_series(folder.with_name(f"{folder.name} to be"), edit=identify):
        file_set.add(path)
    file_set.write(folder)


def write_enhanced(path: Path, edit: Callable[[Dataset], None] | None = None) -> None:
    """The same series as one enhanced multi-frame file, frames in reverse order."""
    image = make_slice(0)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    for name in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "EchoTime"):
        delattr(image, name)
    order = list(reversed(range(SLICES)))
    set_pixels(image, np.stack([stored_values(i) for i in order]))
    image.NumberOfFrames = SLICES
    image.SharedFunctionalGroupsSequence = DicomSequence([_shared_groups()])
    image.PerFrameFunctionalGroupsSequence = DicomSequence([_frame_groups(i) for i in order])
    if edit is not None:
        edit(image)
    image.save_as(path)


def _shared_groups() -> Dataset:
    group = Dataset()
    group.PlaneOrientationSequence = [_item(ImageOrientationPatient=list(SAGITTAL))]
    group.PixelMeasuresSequence = [_item(PixelSpacing=list(PIXEL_SPACING), SliceThickness=3.0)]
    group.MREchoSequence = [_item(EffectiveEchoTime=90.0)]
    group.PixelValueTransformationSequence = [_item(RescaleSlope=1.0, RescaleIntercept=7.0)]
    return group


def _frame_groups(index: int) -> Dataset:
    group = Dataset()
    position = ORIGIN + index * SLICE_STEP_MM * normal(SAGITTAL)
    group.PlanePositionSequence = [_item(ImagePositionPatient=[float(v) for v in position])]
    return group


def _item(**elements: object) -> Dataset:
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return item


def pretend_syntax(image: Dataset, uid: str) -> None:
    """Claim a compressed transfer syntax; the bytes are one encapsulated fragment of nonsense."""
    from pydicom.encaps import encapsulate

    image.file_meta.TransferSyntaxUID = UID(uid)
    image.PixelData = encapsulate([b"\0" * 16])
    image["PixelData"].is_undefined_length = True
