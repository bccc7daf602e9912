"""Sources from which no volume can be built without guessing: each has its own error."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_writer import AXIAL, ORIGIN, SLICE_STEP_MM, make_slice, normal, pretend_syntax, write_series

from spine_client.dicom import read_dicom
from spine_client.errors import InputError, MissingExtra


def refusal(source, **choice) -> InputError:
    with pytest.raises(InputError) as caught:
        read_dicom(source, **choice)
    return caught.value


def test_path_that_does_not_exist(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere").code == "no_such_path"
    assert refusal([tmp_path / "nowhere"]).code == "no_such_path"


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert refusal(tmp_path).code == "empty_folder"


def test_empty_list() -> None:
    assert refusal([]).code == "empty_source"


def test_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "zeros.bin").write_bytes(b"\0" * 500)
    error = refusal(tmp_path)
    assert error.code == "no_dicom"
    assert "2 files" in str(error)


def test_other_modality(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.Modality = "CT"

    write_series(tmp_path, edit=edit)
    assert refusal(tmp_path).code == "not_mr"


def test_dicom_objects_that_are_no_images(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        for name in ("Rows", "Columns", "PixelData"):
            delattr(image, name)

    write_series(tmp_path, edit=edit)
    assert refusal(tmp_path).code == "no_images"


def test_images_without_geometry(tmp_path: Path) -> None:
    write_series(tmp_path, edit=lambda image, index: delattr(image, "ImagePositionPatient"))
    assert refusal(tmp_path).code == "no_geometry"


def test_missing_slice(tmp_path: Path) -> None:
    write_series(tmp_path, skip=[3])
    error = refusal(tmp_path)
    assert error.code == "missing_slices"
    assert "about 1 slices are missing" in str(error)


def test_slice_given_twice_under_another_name(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    shutil.copy(paths[2], tmp_path / "copy")
    error = refusal(tmp_path)
    assert error.code == "duplicate_slices"
    assert "copies of the same image" in str(error)
    assert set(error.files) == {paths[2], tmp_path / "copy"}


def test_two_different_images_at_one_place(tmp_path: Path) -> None:
    write_series(tmp_path)
    make_slice(2).save_as(tmp_path / "again")
    error = refusal(tmp_path)
    assert error.code == "duplicate_slices"
    assert "different images" in str(error)


def test_single_slice(tmp_path: Path) -> None:
    assert refusal(write_series(tmp_path)[:1]).code == "single_slice"


def test_slices_shifted_sideways(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.ImagePositionPatient[2] += 0.8 * index

    write_series(tmp_path, edit=edit)
    error = refusal(tmp_path)
    assert error.code == "shear"
    assert "11.3°" in str(error)


def test_one_slice_shifted_sideways(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.ImagePositionPatient[2] += 5.0 if index == 2 else 0.0

    write_series(tmp_path, edit=edit)
    assert refusal(tmp_path).code == "shear"


def test_uneven_slice_distances(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.ImagePositionPatient[0] -= 1.2 if index == 2 else 0.0

    write_series(tmp_path, edit=edit)
    assert refusal(tmp_path).code == "uneven_spacing"


def test_slightly_uneven_distances_are_read_and_said(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.ImagePositionPatient[0] -= 0.2 if index == 2 else 0.0

    write_series(tmp_path, edit=edit)
    volume = read_dicom(tmp_path)
    assert [item.code for item in volume.notices] == ["uneven_spacing"]
    assert volume.spacing_zyx_mm[0] == pytest.approx(SLICE_STEP_MM)


def test_two_orientations_in_one_series(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        if index >= 3:
            image.ImageOrientationPatient = list(AXIAL)
            image.ImagePositionPatient = [float(v) for v in ORIGIN + index * 4 * normal(AXIAL)]

    write_series(tmp_path, edit=edit)
    assert refusal(tmp_path).code == "mixed_orientations"


def test_a_stack_of_a_mixed_series_can_be_named(tmp_path: Path) -> None:
    from spine_client.dicom import inspect_dicom

    test_two_orientations_in_one_series(tmp_path)
    stacks, _ = inspect_dicom(tmp_path)
    axial = next(stack for stack in stacks if stack.plane == "axial")
    assert read_dicom(tmp_path, series=axial.stack_id).shape_zyx[0] == 3


def test_directions_not_at_right_angles(tmp_path: Path) -> None:
    write_series(tmp_path, orientation=(0.0, 1.0, 0.0, 0.0, 0.5, -0.9))
    assert refusal(tmp_path).code == "bad_geometry"


def test_pixel_spacing_of_zero(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.PixelSpacing = [0.0, 0.5]

    write_series(tmp_path, edit=edit)
    assert refusal(tmp_path).code == "bad_geometry"


def test_series_that_is_not_there(tmp_path: Path) -> None:
    write_series(tmp_path)
    assert refusal(tmp_path, series="1.2.3").code == "no_such_series"
    assert refusal(tmp_path, series="1.2.3#2").code == "no_such_series"


def test_compression_that_needs_an_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDecoder:
        is_available = False

    monkeypatch.setattr("spine_client.dicom.pixels.get_decoder", lambda uid: NoDecoder)
    write_series(tmp_path, edit=lambda image, index: pretend_syntax(image, "1.2.840.10008.1.2.4.80"))
    with pytest.raises(MissingExtra, match=r"spineserve-client\[compressed\]") as caught:
        read_dicom(tmp_path)
    assert caught.value.extra == "compressed"


def test_compression_that_nothing_reads(tmp_path: Path) -> None:
    write_series(tmp_path, edit=lambda image, index: pretend_syntax(image, "1.2.840.10008.1.2.4.100"))
    assert refusal(tmp_path).code == "compressed"


def test_damaged_compressed_pixels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_series(tmp_path, edit=lambda image, index: pretend_syntax(image, "1.2.840.10008.1.2.5"))
    assert refusal(tmp_path).code == "damaged_pixels"
    assert caplog.records == []


def test_constant_image(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.PixelData = np.zeros(120, np.int16).tobytes()

    write_series(tmp_path, edit=edit)
    assert refusal(tmp_path).code == "constant_image"


def test_every_file_truncated(tmp_path: Path) -> None:
    for path in write_series(tmp_path):
        path.write_bytes(path.read_bytes()[:-20])
    assert refusal(tmp_path).code == "damaged_file"


def test_error_names_no_path(tmp_path: Path) -> None:
    folder = tmp_path / "DOE^JANE"
    write_series(folder, skip=[2])
    error = refusal(folder)
    assert "DOE" not in str(error)
    assert "DOE" not in repr(error)


def test_localizers_alone_are_not_analysed_unless_named(tmp_path: Path) -> None:
    def edit(image, index) -> None:
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    paths = write_series(tmp_path, edit=edit)
    assert refusal(tmp_path).code == "only_localizers"
    uid = pydicom.dcmread(paths[0]).SeriesInstanceUID
    assert read_dicom(tmp_path, series=uid).shape_zyx[0] == 6
