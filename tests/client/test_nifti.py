"""NIfTI at the door: RAS outside, LPS inside."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from spine_client.errors import InputError
from spine_client.nifti import read_nifti, write_nifti
from spine_client.volume import Volume

_LETTERS = ("LR", "AP", "IS")


def _all_orientations() -> list[str]:
    return [
        "".join(choice) for order in itertools.permutations(_LETTERS) for choice in itertools.product(*order)
    ]


def _save(path: Path, data: np.ndarray, affine: np.ndarray, *, sform: int = 1, qform: int = 1) -> Path:
    image = nibabel.Nifti1Image(data, affine)
    image.set_sform(affine, code=sform)
    image.set_qform(affine, code=qform)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("codes", _all_orientations())
def test_a_voxel_keeps_its_place_in_the_patient_in_all_48_orientations(tmp_path: Path, codes: str) -> None:
    canonical = nibabel.Nifti1Image(
        np.arange(60, dtype=np.int16).reshape(3, 4, 5),
        np.array([[2, 0, 0, -7], [0, 3, 0, 9], [0, 0, 4, 1], [0, 0, 0, 1.0]]),
    )
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = canonical.as_reoriented(turn)
    assert np.allclose(turned.affine, canonical.affine @ inv_ornt_aff(turn, canonical.shape))
    volume = read_nifti(_save(tmp_path / "v.nii.gz", np.asarray(turned.dataobj), turned.affine))
    for i, j, k in [(0, 0, 0), (2, 1, 3), (1, 3, 4)]:
        ras = (canonical.affine @ [i, j, k, 1])[:3]
        lps = ras * (-1, -1, 1)
        x, y, z = np.round(np.linalg.solve(volume.affine, [*lps, 1])[:3]).astype(int)
        assert volume.voxels[z, y, x] == canonical.dataobj[i, j, k]


def test_labels_come_back_on_the_grid_they_were_read_from(tmp_path: Path) -> None:
    affine = nibabel.affines.from_matvec(np.diag([-0.5, 0.6, 4.0]), [3, 4, 5])
    source = _save(tmp_path / "in.nii.gz", np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine)
    volume = read_nifti(source)
    labels = (volume.voxels % 7).astype(np.uint8)
    write_nifti(tmp_path / "out.nii.gz", labels, volume.affine)
    written = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(written.affine, affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.arange(60).reshape(3, 4, 5) % 7)
    assert written.get_data_dtype() == np.uint8
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (1, 1)


def test_sform_wins_over_a_different_qform_and_that_is_said(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.set_sform(np.diag([2.0, 2, 2, 1]), code=1)
    image.set_qform(np.eye(4), code=1)
    nibabel.save(image, tmp_path / "v.nii")
    volume = read_nifti(tmp_path / "v.nii")
    assert volume.spacing_zyx_mm == (2, 2, 2)
    assert [item.code for item in volume.notices] == ["sform_qform_differ"]


def test_qform_alone_is_enough(tmp_path: Path) -> None:
    affine = np.diag([2.0, 3, 4, 1])
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    volume = read_nifti(_save(tmp_path / "v.nii", data, affine, sform=0))
    np.testing.assert_allclose(volume.affine, np.diag([-2.0, -3, 4, 1]))
    assert volume.notices == ()


def test_unknown_orientation_is_refused(tmp_path: Path) -> None:
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    with pytest.raises(InputError) as caught:
        read_nifti(_save(tmp_path / "v.nii", data, np.eye(4), sform=0, qform=0))
    assert caught.value.code == "no_orientation"


def test_sheared_sform_is_refused(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    image.set_sform(sheared, code=1)
    nibabel.save(image, tmp_path / "v.nii")
    with pytest.raises(InputError) as caught:
        read_nifti(tmp_path / "v.nii")
    assert caught.value.code == "affine_sheared"


def test_scaled_values_are_scaled(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    nibabel.save(image, tmp_path / "v.nii")
    expected = np.asarray(nibabel.load(tmp_path / "v.nii").dataobj).transpose(2, 1, 0)
    np.testing.assert_allclose(read_nifti(tmp_path / "v.nii").voxels, expected)


def test_a_fourth_axis_of_one_is_dropped_and_a_longer_one_refused(tmp_path: Path) -> None:
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5, 1)
    assert read_nifti(_save(tmp_path / "one.nii", data, np.eye(4))).shape_zyx == (5, 4, 3)
    with pytest.raises(InputError) as caught:
        read_nifti(_save(tmp_path / "two.nii", np.concatenate([data, data], axis=3), np.eye(4)))
    assert caught.value.code == "not_3d"


@pytest.mark.parametrize("content", [b"", b"not nifti", b"\x1f\x8b\x08\x00broken"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "DOE^JANE.nii.gz"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_nifti(path)
    assert caught.value.code == "damaged_file"
    assert "DOE" not in str(caught.value)


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    path = _save(
        tmp_path / "v.nii.gz",
        np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16),
        np.eye(4),
    )
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError) as caught:
        read_nifti(path)
    assert caught.value.code == "damaged_file"


def test_real_nifti_files(shared_data: Path) -> None:
    volume = read_nifti(shared_data / "lumbar_t2" / "t2_lumbar.nii.gz")
    assert isinstance(volume, Volume)
    assert volume.shape_zyx == (201, 257, 38)
    np.testing.assert_allclose(volume.spacing_zyx_mm, (1, 1, 1), atol=1e-3)
