"""What is skipped, split, and chosen where a folder holds more than one clean series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_writer import (
    AXIAL,
    SLICES,
    expected_voxels,
    set_pixels,
    stored_values,
    write_enhanced,
    write_series,
)

from spine_client.dicom import inspect_dicom, read_dicom


def codes(volume) -> set[str]:
    return {notice.code for notice in volume.notices}


def test_files_that_are_not_dicom_are_skipped_and_reported(tmp_path: Path) -> None:
    write_series(tmp_path)
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "empty").touch()
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.voxels, expected_voxels())
    assert codes(volume) == {"not_dicom"}
    assert {path.name for path in volume.notices[0].files} == {"README.txt", "empty"}


def test_truncated_end_slice_is_skipped_and_reported(tmp_path: Path) -> None:
    last = write_series(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:-20])
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.voxels, expected_voxels()[:-1])
    assert codes(volume) == {"damaged_file"}


def test_truncated_header_is_skipped_and_reported(tmp_path: Path) -> None:
    last = write_series(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:420])
    volume = read_dicom(tmp_path)
    assert volume.shape_zyx[0] == SLICES - 1
    assert volume.notices != ()


def test_other_modalities_beside_the_series_are_skipped(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.Modality = "CT"

    write_series(tmp_path / "mr")
    write_series(tmp_path / "ct", edit=edit, series_uid="1.2.9")
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.voxels, expected_voxels())
    assert codes(volume) == {"not_mr"}


@pytest.mark.parametrize("mark", ["image type", "description"])
def test_localizer_is_left_out(tmp_path: Path, mark: str) -> None:
    def edit(image, index) -> None:
        if mark == "image type":
            image.ImageType = ["ORIGINAL", "PRIMARY", "M", "LOCALIZER"]
        else:
            image.SeriesDescription = "3-plane Localizer"

    write_series(tmp_path / "scout", edit=edit, series_uid="1.2.9")
    write_series(tmp_path / "spine", skip=[0, 1])
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.voxels, expected_voxels()[2:])
    assert codes(volume) == {"localizer"}


def test_sagittal_wins_over_a_longer_axial_series(tmp_path: Path) -> None:
    write_series(tmp_path / "axial", orientation=AXIAL, series_uid="1.2.9")
    write_series(tmp_path / "sagittal", skip=[0])
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.voxels, expected_voxels()[1:])
    assert codes(volume) == {"other_stacks"}


def test_most_slices_win_among_sagittal_series(tmp_path: Path) -> None:
    write_series(tmp_path / "short", skip=[0], series_uid="1.2.9")
    write_series(tmp_path / "long")
    assert read_dicom(tmp_path).shape_zyx[0] == SLICES


def test_longest_echo_wins_among_equals(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.EchoTime = 9.0
        set_pixels(image, -stored_values(index))

    write_series(tmp_path / "t1", edit=edit, series_uid="1.2.9")
    write_series(tmp_path / "t2")
    np.testing.assert_array_equal(read_dicom(tmp_path).voxels, expected_voxels())


def test_magnitude_wins_over_phase(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.ImageType = ["ORIGINAL", "PRIMARY", "P", "ND"]

    write_series(tmp_path / "phase", edit=edit)
    write_series(tmp_path / "magnitude", skip=[5])
    assert read_dicom(tmp_path).shape_zyx[0] == SLICES - 1


def test_series_can_be_named_by_uid(tmp_path: Path) -> None:
    write_series(tmp_path / "a", skip=[5], series_uid="1.2.9")
    write_series(tmp_path / "b")
    volume = read_dicom(tmp_path, series="1.2.9")
    assert volume.shape_zyx[0] == SLICES - 1
    assert codes(volume) == set()


@pytest.mark.parametrize("keyword", ["EchoNumbers", "TemporalPositionIdentifier", "AcquisitionNumber"])
def test_images_at_the_same_place_are_split(tmp_path: Path, keyword: str) -> None:
    for number in (1, 2):

        def edit(image, index, number=number) -> None:
            setattr(image, keyword, number)
            set_pixels(image, stored_values(index) + number)

        write_series(tmp_path / str(number), edit=edit)
    stacks, _ = inspect_dicom(tmp_path)
    assert [len(stack.frames) for stack in stacks] == [SLICES, SLICES]
    second = read_dicom(tmp_path, series=stacks[1].stack_id)
    np.testing.assert_array_equal(second.voxels, expected_voxels() + 2)


def test_acquisition_number_alone_does_not_split(tmp_path: Path) -> None:
    """Interleaved packages count their slices' acquisitions, and still are one volume."""

    def edit(image, index) -> None:
        image.AcquisitionNumber = 1 + index % 2

    write_series(tmp_path, edit=edit)
    np.testing.assert_array_equal(read_dicom(tmp_path).voxels, expected_voxels())


def test_directions_that_differ_by_rounding_stay_together(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.ImageOrientationPatient = [1e-5 * index, 1.0, 0.0, 0.0, 0.0, -1.0]

    write_series(tmp_path, edit=edit)
    assert read_dicom(tmp_path).shape_zyx[0] == SLICES


def test_colour_captures_beside_the_series_are_skipped(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.SamplesPerPixel, image.PhotometricInterpretation = 3, "RGB"

    write_series(tmp_path / "capture", edit=edit, series_uid="1.2.9")
    write_series(tmp_path / "mr")
    assert codes(read_dicom(tmp_path)) == {"not_an_image"}


def test_dicomdir_is_passed_over(tmp_path: Path) -> None:
    from pydicom.fileset import FileSet

    file_set = FileSet()
    for path in write_series(tmp_path / "in", edit=_with_identity):
        file_set.add(path)
    file_set.write(tmp_path / "disk")
    volume = read_dicom(tmp_path / "disk")
    np.testing.assert_array_equal(volume.voxels, expected_voxels())
    assert volume.notices == ()


def test_enhanced_file_without_frame_geometry_is_skipped(tmp_path: Path) -> None:
    def edit(image) -> None:
        del image.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence

    write_enhanced(tmp_path / "enhanced", edit)
    write_series(tmp_path / "classic")
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.voxels, expected_voxels())
    assert codes(volume) == {"no_geometry"}


def _with_identity(image, index) -> None:
    image.PatientID, image.PatientName, image.StudyInstanceUID = "1", "A^B", "1.2.3.4"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200101", "120000", "1", "1"
