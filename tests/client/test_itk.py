"""NRRD and MetaImage: in the same place as the same volume in NIfTI and DICOM, or refused."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_writer import expected_voxels, write_series

from spine_client.dicom import read_dicom
from spine_client.errors import InputError, MissingExtra
from spine_client.nifti import write_nifti
from spine_client.sources import load
from spine_client.volume import Volume

sitk = pytest.importorskip("SimpleITK", reason="the extra «itk» is not installed")
SUFFIXES = (".nrrd", ".mha")
VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def write_itk(path: Path, volume: Volume, *, compress: bool = True) -> Path:
    """Write a volume with SimpleITK."""
    image = sitk.GetImageFromArray(volume.voxels)
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((volume.affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    sitk.WriteImage(image, str(path), compress)
    return path


def write_nrrd(
    path: Path, *, space: str = "left-posterior-superior", more: str = "", directions: str = ""
) -> Path:
    """A NRRD file written by hand, voxels 2 × 3 × 4 mm with the origin at (1, 2, 3) of `space`."""
    header = [
        "NRRD0004", "type: short", "dimension: 3", f"space: {space}" if space else "", "sizes: 5 4 3",
        f"space directions: {directions or '(2,0,0) (0,3,0) (0,0,4)'}" if space else "", "endian: little",
        "encoding: raw", "space origin: (1,2,3)" if space else "", more,
    ]  # fmt: skip
    text = "\n".join(line for line in header if line) + "\n\n"
    path.write_bytes(text.encode() + VOXELS.tobytes())
    return path


def write_meta(path: Path, *lines: str) -> Path:
    """A MetaImage file written by hand."""
    header = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False",
              "ElementSpacing = 2 3 4", "DimSize = 5 4 3", "ElementType = MET_SHORT", *lines]  # fmt: skip
    path.write_bytes(("\n".join(header) + "\n").encode() + VOXELS.tobytes())
    return path


def refusal(path: Path, capfd: pytest.CaptureFixture[str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load(path)
    texts = ["".join(traceback.format_exception(caught.value)), repr(caught.value)]
    if capfd is not None:
        texts.extend(capfd.readouterr())
    assert not any("DOE" in text for text in texts)
    return caught.value.code


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_same_volume_as_dicom_and_nifti(tmp_path: Path, suffix: str) -> None:
    """An oblique series: turned about all axes, anisotropic, off the origin."""
    angles = np.radians([20, -10, 30])
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [(1, 2), (0, 2), (0, 1)][axis]
        step = np.eye(3)
        step[[i, j, i, j], [i, j, j, i]] = np.cos(angle), np.cos(angle), -np.sin(angle), np.sin(angle)
        turn = turn @ step
    orientation = [round(float(v), 12) for v in (*turn[:, 0], *turn[:, 1])]
    write_series(tmp_path / "dicom", orientation=orientation)
    dicom = read_dicom(tmp_path / "dicom")
    write_nifti(tmp_path / "v.nii.gz", dicom.voxels, dicom.affine)
    itk = load(write_itk(tmp_path / f"v{suffix}", dicom))
    nifti = load(tmp_path / "v.nii.gz")
    np.testing.assert_array_equal(itk.voxels, expected_voxels())
    np.testing.assert_array_equal(itk.voxels, nifti.voxels)
    np.testing.assert_allclose(itk.affine, dicom.affine, atol=1e-5)
    np.testing.assert_allclose(itk.affine, nifti.affine, atol=1e-4)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["lumbar_t2/t2_lumbar", "labelled_t2/sub-mri_label-6_T2w"])
def test_real_images_by_an_independent_reader_and_ours(
    shared_data: Path, tmp_path: Path, suffix: str, name: str
) -> None:
    """SimpleITK's own NIfTI reader and writer on one side, nibabel and ours on the other."""
    source = shared_data / f"{name}.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(source)), str(tmp_path / f"v{suffix}"))
    itk, nifti = load(tmp_path / f"v{suffix}"), load(source)
    np.testing.assert_array_equal(itk.voxels, nifti.voxels)
    np.testing.assert_allclose(itk.affine, nifti.affine, atol=1e-3)
    assert nibabel.aff2axcodes(itk.affine) == nibabel.aff2axcodes(nifti.affine)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1)),
        ("right-anterior-superior", (-1, -1)),
        ("left-anterior-superior", (1, -1)),
        ("RAS", (-1, -1)),
        ("LPS", (1, 1)),
    ],
)
def test_nrrd_spaces_are_turned_to_lps(tmp_path: Path, space: str, signs: tuple[int, int]) -> None:
    volume = load(write_nrrd(tmp_path / "v.nrrd", space=space))
    expected = np.array([[2.0, 0, 0, 1], [0, 3, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1]])
    expected[0] *= signs[0]
    expected[1] *= signs[1]
    np.testing.assert_allclose(volume.affine, expected)
    np.testing.assert_array_equal(volume.voxels, VOXELS)


@pytest.mark.parametrize("space", ["", "scanner-xyz", "3D-right-handed"])
def test_nrrd_of_unknown_orientation(tmp_path: Path, space: str, capfd) -> None:
    assert refusal(write_nrrd(tmp_path / "DOE.nrrd", space=space), capfd) == "no_orientation"


def test_meta_image_of_unknown_orientation(tmp_path: Path, capfd) -> None:
    assert refusal(write_meta(tmp_path / "DOE.mha", "ElementDataFile = LOCAL"), capfd) == "no_orientation"


def test_voxels_in_another_file(tmp_path: Path, capfd) -> None:
    """A header from elsewhere must not make this machine send another of its files."""
    matrix = "TransformMatrix = 1 0 0 0 1 0 0 0 1"
    assert (
        refusal(write_meta(tmp_path / "DOE.mha", matrix, "ElementDataFile = /etc/passwd"), capfd)
        == "detached_voxels"
    )
    assert (
        refusal(write_nrrd(tmp_path / "DOE.nrrd", more="data file: /etc/passwd"), capfd) == "detached_voxels"
    )


def test_other_units_than_millimetres(tmp_path: Path) -> None:
    assert refusal(write_nrrd(tmp_path / "v.nrrd", more='space units: "m" "m" "m"')) == "space_units"


def test_sheared_directions(tmp_path: Path, capfd) -> None:
    path = write_nrrd(tmp_path / "DOE.nrrd", directions="(2,0,0) (1,3,0) (0,0,4)")
    assert refusal(path, capfd) == "affine_sheared"


def test_colours_and_series_of_volumes(tmp_path: Path) -> None:
    colour = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    sitk.WriteImage(colour, str(tmp_path / "c.mha"))
    assert refusal(tmp_path / "c.mha") == "not_3d"
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.int16), isVector=False), str(tmp_path / "t.mha")
    )
    assert refusal(tmp_path / "t.mha") == "not_3d"


def test_claims_beyond_any_request(tmp_path: Path) -> None:
    path = write_nrrd(tmp_path / "v.nrrd")
    path.write_bytes(path.read_bytes().replace(b"sizes: 5 4 3", b"sizes: 90000 90000 9"))
    assert refusal(path) == "too_large"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [True, False])
def test_truncated_files(tmp_path: Path, suffix: str, compress: bool, capfd) -> None:
    noise = np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16)
    path = write_itk(tmp_path / f"DOE{suffix}", Volume(noise, np.eye(4)), compress=compress)
    whole = path.read_bytes()
    for kept in range(0, len(whole) - 1, max(1, len(whole) // 25)):
        path.write_bytes(whole[:kept])
        assert refusal(path, capfd) in ("damaged_file", "no_orientation", "detached_voxels"), kept


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_that_are_something_else(tmp_path: Path, suffix: str, capfd) -> None:
    path = tmp_path / f"DOE{suffix}"
    path.write_bytes(b"\x00\xff" * 500)
    assert refusal(path, capfd) == "no_orientation"
    path.unlink()
    assert refusal(path, capfd) == "no_such_path"


def test_missing_simpleitk_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(MissingExtra) as caught:
        load(write_nrrd(tmp_path / "v.nrrd"))
    assert caught.value.extra == "itk"
