"""Real MR images, converted to DICOM by the project's own writer, come back as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spine_client.dicom import read_dicom
from spine_client.nifti import read_nifti
from spine_client.volume import Volume
from spinecore.phantom import Phantom
from spinecore.phantom.io import write_dicom

IMAGES = (
    "lumbar_t2/t2_lumbar.nii.gz",
    "cervical_t2/t2_cervicothoracic.nii.gz",
    "labelled_t2/sub-mri_label-6_T2w.nii.gz",
)


def whole_numbers(image: Volume) -> np.ndarray:
    """Voxels as the 16 bits of an MR image hold them; float images are scaled to 0…4095 first."""
    voxels = image.voxels.astype(np.float64)
    if image.voxels.dtype.kind == "f" or voxels.min() < 0:
        voxels = (voxels - voxels.min()) * (4095 / np.ptp(voxels))
    return np.round(voxels).astype(np.uint16)


@pytest.mark.parametrize("name", IMAGES)
def test_real_image_as_dicom_keeps_its_voxels_and_geometry(
    shared_data: Path, lumbar_phantom: Phantom, tmp_path: Path, name: str
) -> None:
    """The writer keeps the file's axes, whichever they are; the reader orders slices along their normal."""
    image = read_nifti(shared_data / name)
    voxels = whole_numbers(image)
    assert len(np.unique(voxels)) > 100
    write_dicom(replace(lumbar_phantom, image=voxels, affine=image.affine), tmp_path)
    volume = read_dicom(tmp_path)
    # a slice axis against the normal comes back turned round: the same voxels at the same places
    if np.linalg.det(image.affine[:3, :3]) < 0:
        last = image.affine @ [0, 0, len(voxels) - 1, 1]
        image = Volume(
            image.voxels[::-1], np.column_stack([*image.affine[:, :2].T, -image.affine[:, 2], last])
        )
        voxels = voxels[::-1]
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, image.affine, atol=1e-5)
    assert [item.code for item in volume.notices] == []
