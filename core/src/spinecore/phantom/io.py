"""Writes phantoms as an MR DICOM series, as NIfTI or as one ``.npz``, with their truth as JSON.

pydicom and nibabel are imported where they are used; `pip install spineserve-core[files]` brings them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from spinecore.phantom.config import Contrast
from spinecore.phantom.make import Phantom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MR_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.4"
TIMING_MS: Final[dict[Contrast, tuple[float, float]]] = {
    "t1": (600.0, 10.0),
    "t2": (3500.0, 100.0),
    "fatsat": (4000.0, 70.0),
    "random": (2000.0, 50.0),
}
"""Repetition and echo time written into the headers; the images come from no such sequence."""


def write_dicom(phantom: Phantom, folder: Path) -> list[Path]:
    """Write one MR Image Storage file per slice (index z) into `folder` and return their paths.

    Follows the MR Image IOD (PS3.3 A.4): explicit little endian, position and orientation from the affine
    (7.6.2.1.1 of PS3.3 C), UIDs derived from the configuration, so that the same phantom gives the same
    series.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(phantom.image.shape[0]):
        path = folder / f"{index + 1:04d}.dcm"
        _slice_dataset(phantom, index).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _uid(phantom: Phantom, *parts: object) -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=[repr(phantom.config), *map(str, parts)]))


def _slice_dataset(phantom: Phantom, index: int) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = MR_IMAGE_STORAGE
    dataset.SOPInstanceUID = _uid(phantom, "instance", index)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for keyword, value in _series_attributes(phantom).items():
        setattr(dataset, keyword, value)
    for keyword, value in _plane_attributes(phantom.affine, index).items():
        setattr(dataset, keyword, value)
    pixels = phantom.image[index]
    dataset.InstanceNumber = index + 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = np.ascontiguousarray(pixels, "<u2").tobytes()
    return dataset


def _series_attributes(phantom: Phantom) -> dict[str, Any]:
    """What all slices share; type-2 attributes of a patient who does not exist stay empty."""
    contrast = phantom.config.contrast or "random"
    repetition, echo = TIMING_MS[contrast]
    empty = (
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ReferringPhysicianName",
        "PatientBirthDate",
        "PatientSex",
    )
    return {
        **dict.fromkeys(empty, ""),
        "PatientName": "Phantom^Spine", "PatientID": f"PHANTOM-{phantom.config.seed}", "StudyID": "1",
        "Modality": "MR", "Manufacturer": "SpineServe phantom", "SeriesNumber": 1, "AcquisitionNumber": 1,
        "SeriesDescription": f"synthetic {phantom.config.region} {contrast}", "BodyPartExamined": "SPINE",
        "StudyInstanceUID": _uid(phantom, "study"), "SeriesInstanceUID": _uid(phantom, "series"),
        "FrameOfReferenceUID": _uid(phantom, "frame"), "PositionReferenceIndicator": "",
        "PatientPosition": "HFS",
        "ImageType": ["DERIVED", "PRIMARY", "OTHER"], "ScanningSequence": "SE", "SequenceVariant": "SK",
        "ScanOptions": "", "MRAcquisitionType": "2D", "RepetitionTime": repetition, "EchoTime": echo,
        "EchoTrainLength": 1, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0,
    }  # fmt: skip


def _plane_attributes(affine: NDArray[np.float64], index: int) -> dict[str, Any]:
    """Position and orientation of slice `index`: columns run along x, rows along y of the array."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / steps
    position = affine[:3, 3] + index * affine[:3, 2]
    return {
        "ImageOrientationPatient": [_decimal(v) for v in (*directions[:, 0], *directions[:, 1])],
        "ImagePositionPatient": [_decimal(v) for v in position],
        "PixelSpacing": [_decimal(steps[1]), _decimal(steps[0])],
        "SliceThickness": _decimal(steps[2]),
        "SpacingBetweenSlices": _decimal(steps[2]),
    }


def _decimal(value: float) -> str:
    """A DICOM decimal string: at most 16 characters."""
    return f"{value:.10f}"[:16]


def write_nifti(phantom: Phantom, folder: Path) -> list[Path]:
    """Write ``image``, ``labels`` and ``classes`` ``.nii.gz`` (RAS affines, index order x, y, z) into
    `folder`."""
    import nibabel

    folder.mkdir(parents=True, exist_ok=True)
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ phantom.affine
    paths = []
    for name in ("image", "labels", "classes"):
        volume = nibabel.Nifti1Image(np.ascontiguousarray(getattr(phantom, name).T), ras)  # type: ignore[no-untyped-call]
        volume.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
        path = folder / f"{name}.nii.gz"
        nibabel.save(volume, path)
        paths.append(path)
    return paths


def write_npz(phantom: Phantom, folder: Path) -> list[Path]:
    """Write ``phantom.npz`` with image, classes, labels (Z, Y, X) and the LPS affine into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "phantom.npz"
    np.savez_compressed(
        path, image=phantom.image, classes=phantom.classes, labels=phantom.labels, affine=phantom.affine
    )
    return [path]


def write_truth(phantom: Phantom, path: Path) -> Path:
    """Write levels and measurements as JSON, with the configuration that made them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"config": vars(phantom.config), **phantom.truth.to_json()}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
