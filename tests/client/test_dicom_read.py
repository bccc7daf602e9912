"""Regular series: order, geometry, pixel values."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_writer import (
    AXIAL,
    CORONAL,
    ORIGIN,
    PIXEL_SPACING,
    SAGITTAL,
    SLICE_STEP_MM,
    SLICES,
    expected_voxels,
    make_slice,
    normal,
    set_pixels,
    stored_values,
    write_enhanced,
    write_series,
)
from pydicom.pixels import get_encoder
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from spine_client.dicom import read_dicom


def codes(volume) -> set[str]:
    return {notice.code for notice in volume.notices}


def test_slices_are_sorted_along_the_normal_whatever_their_names_and_numbers(tmp_path: Path) -> None:
    write_series(tmp_path)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.voxels, expected_voxels())
    assert volume.voxels.dtype == np.int16
    assert volume.notices == ()


@pytest.mark.parametrize("orientation", [SAGITTAL, AXIAL, CORONAL])
def test_affine_takes_every_voxel_to_the_place_its_slice_claims(tmp_path: Path, orientation) -> None:
    write_series(tmp_path, orientation=orientation)
    affine = read_dicom(tmp_path).affine
    column, row, z = 3, 4, 2
    expected = (
        np.array(ORIGIN)
        + z * SLICE_STEP_MM * normal(orientation)
        + column * PIXEL_SPACING[1] * np.array(orientation[:3])
        + row * PIXEL_SPACING[0] * np.array(orientation[3:])
    )
    np.testing.assert_allclose((affine @ [column, row, z, 1])[:3], expected, atol=1e-9)
    assert np.linalg.det(affine[:3, :3]) > 0


def test_spacing_comes_from_positions_not_from_slice_thickness(tmp_path: Path) -> None:
    write_series(tmp_path)
    np.testing.assert_allclose(read_dicom(tmp_path).spacing_zyx_mm, (SLICE_STEP_MM, *PIXEL_SPACING))


def test_oblique_series(tmp_path: Path) -> None:
    angle = np.deg2rad(17)
    orientation = (np.sin(angle), np.cos(angle), 0.0, 0.0, 0.0, -1.0)
    write_series(tmp_path, orientation=orientation)
    volume = read_dicom(tmp_path)
    np.testing.assert_allclose(volume.spacing_zyx_mm, (SLICE_STEP_MM, *PIXEL_SPACING))
    np.testing.assert_array_equal(volume.voxels, expected_voxels())


def test_list_of_files_and_list_of_datasets_read_like_the_folder(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    from_files = read_dicom(paths)
    from_datasets = read_dicom([pydicom.dcmread(path) for path in paths])
    for volume in (from_files, from_datasets):
        np.testing.assert_array_equal(volume.voxels, expected_voxels())


def test_subfolders_are_searched(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a" / "b")
    (tmp_path / "c").mkdir()
    shutil.move(paths[0], tmp_path / "c" / "IM000")
    np.testing.assert_array_equal(read_dicom(tmp_path).voxels, expected_voxels())


def test_rescale_slope_and_intercept_are_applied_slice_by_slice(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.RescaleSlope, image.RescaleIntercept = 1.0 + index, -10.0 * index

    write_series(tmp_path, edit=edit)
    volume = read_dicom(tmp_path)
    expected = np.stack([stored_values(i) * (1.0 + i) - 10.0 * i for i in range(SLICES)])
    np.testing.assert_allclose(volume.voxels, expected)
    assert codes(volume) == {"rescale_varies"}


def test_fractional_slope_gives_float32(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.RescaleSlope, image.RescaleIntercept = 0.25, 1.5

    write_series(tmp_path, edit=edit)
    volume = read_dicom(tmp_path)
    assert volume.voxels.dtype == np.float32
    np.testing.assert_allclose(volume.voxels, expected_voxels() * 0.25 + 1.5)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_signedness_is_respected(tmp_path: Path, dtype) -> None:
    values = (np.arange(120).reshape(12, 10) * 500).astype(np.uint16).view(dtype)
    write_series(tmp_path, edit=lambda image, index: set_pixels(image, values))
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.voxels, np.stack([values] * SLICES))
    assert volume.voxels.dtype == dtype


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_beyond_the_stored_ones_are_ignored(tmp_path: Path, signed: int) -> None:
    values = np.array([[5, 2000], [-7, -2048]] if signed else [[5, 2000], [4095, 7]], dtype=np.int16)
    values = np.tile(values, (4, 4))

    def edit(image, index) -> None:
        overlay = (values & 0x0FFF) | 0x3000  # an old overlay in the upper bits
        set_pixels(image, overlay.astype(np.uint16))
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, signed

    write_series(tmp_path, edit=edit)
    np.testing.assert_array_equal(read_dicom(tmp_path).voxels, np.stack([values] * SLICES))


def test_monochrome1_is_inverted_and_said(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.PhotometricInterpretation = "MONOCHROME1"

    write_series(tmp_path, edit=edit)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.voxels, -expected_voxels())
    assert codes(volume) == {"inverted"}


def test_rle_compression_needs_no_extra(tmp_path: Path) -> None:
    for path in write_series(tmp_path):
        image = pydicom.dcmread(path)
        image.compress(RLELossless)
        image.save_as(path)
    np.testing.assert_array_equal(read_dicom(tmp_path).voxels, expected_voxels())


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_lossless_compressions_read_with_their_decoders(tmp_path: Path, syntax) -> None:
    if not get_encoder(syntax).is_available:
        pytest.skip("the extra «compressed» is not installed")

    def edit(image, index) -> None:  # JPEG 2000 wants more than a few pixels
        set_pixels(image, np.tile(stored_values(index), (6, 7)))
        image.compress(syntax)

    write_series(tmp_path, edit=edit)
    np.testing.assert_array_equal(read_dicom(tmp_path).voxels, np.tile(expected_voxels(), (1, 6, 7)))


def test_implicit_vr_and_a_missing_preamble_are_read(tmp_path: Path) -> None:
    for path in write_series(tmp_path):
        image = pydicom.dcmread(path)
        image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        bare = pydicom.Dataset({element.tag: element for element in image})
        bare.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_dicom(tmp_path).voxels, expected_voxels())


def test_dataset_without_file_meta_information_is_read_and_left_as_it_was() -> None:
    images = [make_slice(i) for i in range(SLICES)]
    bare = [pydicom.Dataset({element.tag: element for element in image}) for image in images]
    np.testing.assert_array_equal(read_dicom(bare).voxels, expected_voxels())
    assert not hasattr(bare[0], "file_meta")


def test_enhanced_multi_frame(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "IM0")
    volume = read_dicom(tmp_path / "IM0")
    np.testing.assert_array_equal(volume.voxels, expected_voxels() + 7)
    np.testing.assert_allclose(volume.spacing_zyx_mm, (SLICE_STEP_MM, *PIXEL_SPACING))
    np.testing.assert_allclose(volume.affine[:3, 3], ORIGIN)


def test_enhanced_per_frame_groups_override_shared_ones(tmp_path: Path) -> None:
    def edit(image) -> None:
        for group in image.PerFrameFunctionalGroupsSequence:
            item = pydicom.Dataset()
            item.RescaleSlope, item.RescaleIntercept = 2.0, 0.0
            group.PixelValueTransformationSequence = [item]

    write_enhanced(tmp_path / "IM0", edit)
    np.testing.assert_array_equal(read_dicom(tmp_path).voxels, expected_voxels() * 2)


def test_enhanced_echoes_are_split(tmp_path: Path) -> None:
    def edit(image) -> None:
        for number, group in enumerate(image.PerFrameFunctionalGroupsSequence):
            item = pydicom.Dataset()
            item.EffectiveEchoTime = 90.0 if number < 4 else 10.0
            group.MREchoSequence = [item]

    write_enhanced(tmp_path / "IM0", edit)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.voxels, expected_voxels()[2:] + 7)
    assert codes(volume) == {"other_stacks"}


def test_real_dual_echo_series_is_split_into_its_echoes(shared_data: Path) -> None:
    from spine_client.dicom import inspect_dicom

    stacks, _ = inspect_dicom(shared_data / "sagittal_dicom")
    assert [(len(stack.frames), stack.echo_time_ms, stack.plane) for stack in stacks] == [
        (35, 11.0, "sagittal"),
        (35, 92.0, "sagittal"),
    ]
    volume = read_dicom(shared_data / "sagittal_dicom")
    np.testing.assert_allclose(volume.spacing_zyx_mm, (2.34, 1.796875, 1.796875), rtol=2e-3)
    first_echo = read_dicom(shared_data / "sagittal_dicom", series=stacks[0].stack_id)
    np.testing.assert_allclose(first_echo.affine, volume.affine)
    assert not np.array_equal(first_echo.voxels, volume.voxels)
    expected = pydicom.dcmread(shared_data / "sagittal_dicom" / "0001.dcm").pixel_array
    assert any(np.array_equal(expected, plane) for plane in first_echo.voxels)


def test_make_slice_is_a_valid_starting_point() -> None:
    """Guards the helper: what the tests bend must be straight to begin with."""
    image = make_slice(0)
    np.testing.assert_array_equal(image.pixel_array, stored_values(0))
