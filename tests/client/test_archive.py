"""Zip archives and DICOMDIR: read in place, and refused where they cannot be trusted."""

from __future__ import annotations

import random
import shutil
import struct
import traceback
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_writer import SLICES, expected_voxels, write_disk, write_series

from spine_client.cli.batch import find_studies
from spine_client.dicom import archive, inspect_dicom, read_dicom
from spine_client.dicom.directory import files_listed_in
from spine_client.errors import InputError
from spine_client.sources import load


def _identify(image, index) -> None:
    image.PatientID, image.PatientName, image.StudyInstanceUID = "P1", "A^B", "1.2.99"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200101", "120000", "1", "1"
    image.FrameOfReferenceUID = "1.2.98"


def zip_of(folder: Path, target: Path, *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """An archive of all files of a folder, with its subfolders as they are."""
    with zipfile.ZipFile(target, "w", method) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder))
    return target


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    """The series in a subfolder of an archive, beside a text file."""
    write_series(tmp_path / "study" / "series", edit=_identify)
    (tmp_path / "study" / "README.txt").write_text("hello")
    return zip_of(tmp_path / "study", tmp_path / "study.zip")


def refusal(source) -> str:
    with pytest.raises(InputError) as caught:
        read_dicom(source)
    text = "".join(traceback.format_exception(caught.value))
    assert "DOE" not in text and "DOE" not in repr(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_zip_archive_reads_like_its_folder(tmp_path: Path, method: int) -> None:
    write_series(tmp_path / "study" / "series")
    (tmp_path / "study" / "README.txt").write_text("hello")
    volume = load(zip_of(tmp_path / "study", tmp_path / "any name", method=method))
    np.testing.assert_array_equal(volume.voxels, expected_voxels())
    np.testing.assert_array_equal(volume.affine, read_dicom(tmp_path / "study").affine)
    assert [(item.code, item.files) for item in volume.notices] == [("not_dicom", (tmp_path / "any name",))]


def test_zip_archive_can_be_inspected_and_counts_as_a_study(zipped: Path) -> None:
    stacks, _ = inspect_dicom(zipped)
    assert [len(stack.frames) for stack in stacks] == [SLICES]
    assert find_studies(zipped.parent) == [zipped.parent / "study", zipped]


def test_nothing_of_an_archive_is_written_to_disk(zipped: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.rmtree(tmp_path / "study")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    load(zipped)
    assert list(tmp_path.rglob("*")) == [zipped]


def test_dicom_can_be_written_about_a_zipped_source(zipped: Path) -> None:
    from spine_client.dicom_out.sources import _read

    frames = load(zipped).frames
    assert [str(_read(frame.origin).PatientName) for frame in frames] == ["A^B"] * SLICES


def test_archives_and_files_can_be_listed_together(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "DOE")
    (tmp_path / "part").mkdir()
    for path in paths[:3]:
        path.rename(tmp_path / "part" / path.name)
    volume = load([zip_of(tmp_path / "part", tmp_path / "part.zip"), *paths[3:]])
    np.testing.assert_array_equal(volume.voxels, expected_voxels())


def test_truncated_archive(zipped: Path) -> None:
    zipped.write_bytes(zipped.read_bytes()[:-200])
    assert refusal(zipped) == "damaged_archive"


def test_damaged_member_of_an_archive_is_skipped_and_leaves_a_hole(tmp_path: Path) -> None:
    """The check sum tells, although the header of the image is whole."""
    paths = write_series(tmp_path / "study")
    third = sorted(paths, key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[0]))[2]
    packed = zip_of(tmp_path / "study", tmp_path / "s.zip", method=zipfile.ZIP_STORED)
    content = bytearray(packed.read_bytes())
    content[content.index(third.read_bytes()[-20:])] ^= 0xFF
    packed.write_bytes(content)
    assert refusal(packed) == "missing_slices"


def test_empty_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "e.zip", "w"):
        pass
    assert refusal(tmp_path / "e.zip") == "empty_archive"


def test_encrypted_archive(zipped: Path) -> None:
    """The flag of every local and central header says that the member is encrypted."""
    content = bytearray(zipped.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = content.find(signature)
        while position >= 0:
            content[position + offset] |= 1
            position = content.find(signature, position + 4)
    zipped.write_bytes(content)
    assert refusal(zipped) == "encrypted_archive"


def test_archive_in_an_archive(zipped: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.write(zipped, "inner.dcm")
    assert refusal(tmp_path / "outer.zip") == "nested_archive"


@pytest.mark.parametrize("name", ["../DOE.dcm", "/DOE.dcm", "a/../../DOE.dcm", "..\\DOE.dcm", "C:\\DOE.dcm"])
def test_archive_with_names_that_point_outside(tmp_path: Path, name: str) -> None:
    image = write_series(tmp_path / "series")[0]
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as packed:
        packed.write(image, "good.dcm")
        packed.writestr(zipfile.ZipInfo(name), image.read_bytes())
    assert refusal(tmp_path / "s.zip") == "unsafe_archive"


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros.dcm", bytes(80 * 2**20))
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    assert refusal(tmp_path / "s.zip") == "archive_too_large"


def test_archive_that_claims_little_gets_no_more_memory_than_it_claims(tmp_path: Path) -> None:
    """A bomb that lies about its size: the member ends where it said, and fails its check sum."""
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros.dcm", bytes(80 * 2**20))
    content = bytearray((tmp_path / "s.zip").read_bytes())
    central = content.rindex(b"PK\x01\x02")
    content[central + 24 : central + 28] = struct.pack("<I", 1000)
    (tmp_path / "s.zip").write_bytes(content)
    assert refusal(tmp_path / "s.zip") == "damaged_file"
    with pytest.raises(zipfile.BadZipFile):
        archive.members_of(tmp_path / "s.zip")[0].open()


def test_huge_claims_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.dcm", random.Random(0).randbytes(2**16))
    content = bytearray((tmp_path / "s.zip").read_bytes())
    central = content.rindex(b"PK\x01\x02")
    content[central + 24 : central + 28] = struct.pack("<I", archive.MAX_MEMBER_BYTES + 1)
    (tmp_path / "s.zip").write_bytes(content)
    assert refusal(tmp_path / "s.zip") == "archive_too_large"


def test_compression_that_zipfile_does_not_know(zipped: Path) -> None:
    content = zipped.read_bytes().replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x08\x00", b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x09\x00"
    )
    zipped.write_bytes(content)
    assert refusal(zipped) == "damaged_file"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A file set as on a CD."""
    write_disk(tmp_path / "disk")
    return tmp_path / "disk"


def test_dicomdir_names_its_files(disk: Path) -> None:
    (disk / "other").write_bytes(b"not listed, so never looked at")
    volume = load(disk / "DICOMDIR")
    np.testing.assert_array_equal(volume.voxels, expected_voxels())
    assert volume.notices == ()


def test_dicomdir_of_a_disk_mounted_in_lower_case(disk: Path) -> None:
    for path in sorted(disk.rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.lower()))
    np.testing.assert_array_equal(load(disk / "dicomdir").voxels, expected_voxels())


def test_file_that_the_dicomdir_lists_and_is_gone(disk: Path) -> None:
    ordered = sorted(
        files_listed_in(disk / "DICOMDIR"),
        key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[0]),
    )
    ordered[0].unlink()
    volume = load(disk / "DICOMDIR")
    assert volume.shape_zyx[0] == SLICES - 1
    assert [(item.code, item.files) for item in volume.notices] == [("missing_file", (ordered[0],))]
    for path in ordered[1:]:
        path.unlink()
    assert refusal(disk / "DICOMDIR") == "missing_file"


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_dicomdir_that_points_outside(disk: Path) -> None:
    index = pydicom.dcmread(disk / "DICOMDIR")
    record = next(item for item in index.DirectoryRecordSequence if "ReferencedFileID" in item)
    record.ReferencedFileID = ["..", "DOE"]
    index.save_as(disk / "DICOMDIR")
    assert refusal(disk / "DICOMDIR") == "unsafe_dicomdir"


def test_damaged_dicomdir(disk: Path) -> None:
    (disk / "DICOMDIR").write_bytes((disk / "DICOMDIR").read_bytes()[:500])
    assert refusal(disk / "DICOMDIR") in ("damaged_file", "empty_dicomdir")
    (disk / "DICOMDIR").write_bytes(b"DOE")
    assert refusal(disk / "DICOMDIR") == "damaged_file"


def test_dicomdir_in_an_archive_is_passed_over(disk: Path, tmp_path: Path) -> None:
    volume = load(zip_of(disk, tmp_path / "disk.zip"))
    np.testing.assert_array_equal(volume.voxels, expected_voxels())
    assert volume.notices == ()
