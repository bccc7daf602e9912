"""Nothing that names a patient leaves the reader: not to the server, a log, an error or a file."""

from __future__ import annotations

import logging
import shutil
import traceback
from pathlib import Path

import grpc
import numpy as np
import pydicom
import pytest
from dicom_writer import SLICES, set_pixels, write_enhanced, write_series
from fake_triton import fails, good_answer, in_shared_memory, labels_only
from pydicom.datadict import DicomDictionary

from spine_client.cli import main
from spine_client.dicom import inspect_dicom, read_dicom
from spine_client.errors import SpineClientError

_TEXT = "SENTINEL"
_UID = "1.2.777555333"
_DATE = "18880808"
_SENTINELS = (_TEXT, _UID, _DATE, "08.08.1888")
_BY_VR = dict.fromkeys(("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"), _TEXT) | {
    "UI": _UID,
    "DA": _DATE,
    "DT": _DATE,
}
_NEEDED = {"SOPClassUID", "TransferSyntaxUID"}


def _plant(image: pydicom.Dataset, index: int = 0) -> None:
    """Put a sentinel into every text, date and UID element that DICOM knows, and into a private one."""
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if vr in _BY_VR and tag >> 16 not in (0x0000, 0x0002) and keyword not in _NEEDED:
            value = f"{_UID}.{index}" if keyword == "SOPInstanceUID" else _BY_VR[vr]
            image.add_new(tag, vr, value)
    block = image.private_block(0x0011, _TEXT, create=True)
    block.add_new(0x01, "LO", _TEXT)
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID


@pytest.fixture(params=["classic", "enhanced", "zip"])
def named_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A series full of sentinels, in a folder that is named after the patient too."""
    folder = tmp_path / f"{_TEXT}^JANE"
    if request.param in ("classic", "zip"):
        paths = write_series(folder, edit=_plant)
        (folder / f"{_TEXT}.txt").write_text(_TEXT)
        assert _TEXT.encode() in paths[0].read_bytes()
    else:
        folder.mkdir()
        write_enhanced(folder / f"{_TEXT}.dcm", _plant)
    if request.param == "zip":
        return Path(shutil.make_archive(str(folder), "zip", folder))
    return folder


def _assert_clean(text: str | bytes, where: str) -> None:
    content = text.encode() if isinstance(text, str) else text
    for sentinel in _SENTINELS:
        assert sentinel.encode() not in content, f"{sentinel} in {where}"


def test_nothing_leaves_with_the_request_or_stays_in_the_results(
    serve, named_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn
) -> None:
    caplog.set_level(logging.DEBUG)
    servicer, client = serve()
    result = client.analyze(named_folder)
    written = result.save(tmp_path / "out")
    _assert_clean(servicer.wire[0], "request")
    _assert_clean(repr(servicer.metadata), "metadata")
    _assert_clean(result.to_json(), "report")
    _assert_clean(repr(result), "repr of the result")
    _assert_clean(caplog.text, "log")
    _assert_clean(" ".join(str(item.message) for item in recwarn), "warnings")
    for path in written.values():
        _assert_clean(path.name, "file name")
        _assert_clean(path.read_bytes(), path.name)


def test_segmentation_frame_print_and_batch_name_nobody(
    serve, named_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn, capsys
) -> None:
    """The outputs beside a report's. A batch names its folders after the studies': hence the neutral name."""
    caplog.set_level(logging.DEBUG)
    servicer, client = serve(labels_only, good_answer)
    segmented = client.segment(named_folder)
    written = segmented.save(tmp_path / "segmented")
    _assert_clean(segmented.to_json() + repr(segmented), "segmentation")
    _assert_clean(client.analyze(named_folder).to_frame().to_csv(), "frame")
    named_folder.rename(tmp_path / "studies")
    (tmp_path / "batch").mkdir()
    (tmp_path / "studies").rename(tmp_path / "batch" / f"one{named_folder.suffix}")
    out = tmp_path / "out"
    command = ["batch", str(tmp_path / "batch"), "--out", str(out), "--url", servicer.url]
    assert main(command) == 0
    assert main([*command, "--json"]) == 0
    output = capsys.readouterr()
    _assert_clean(output.out + output.err, "output of the command line")
    for path in (*written.values(), *(path for path in out.rglob("*") if path.is_file())):
        _assert_clean(str(path.relative_to(tmp_path)), "file name")
        _assert_clean(path.read_bytes(), path.name)
    for request in servicer.wire:
        _assert_clean(request, "request")
    _assert_clean(caplog.text + " ".join(str(item.message) for item in recwarn), "logs and warnings")


def test_shared_memory_holds_voxels_alone_under_a_random_name(serve, named_folder: Path) -> None:
    servicer, client = serve(shared_memory=True)
    answer = in_shared_memory(servicer)
    held: list[bytes] = []

    def look(request, context):
        held.extend(region[:] for region in servicer.regions.values())
        return answer(request, context)

    servicer.behaviours = (look,)
    client.analyze(named_folder)
    assert len(held) == 1
    _assert_clean(held[0], "shared memory")
    _assert_clean(" ".join(servicer.registered), "name of the region")
    _assert_clean(servicer.wire[0], "request")


def test_dicom_results_alone_carry_the_patient_and_no_other_place_does(
    serve, tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn
) -> None:
    """DICOM demands it of them; they are written when asked for, under fixed names."""
    pytest.importorskip("highdicom", reason="the extra «dicom» is not installed")
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / f"{_TEXT}^JANE"
    write_series(folder, edit=_identify)
    _, client = serve()
    written = client.analyze(folder).save(tmp_path / "out", formats=["seg", "sr"])
    assert {path.name for path in written.values()} == {"segmentation.dcm", "measurements.dcm"}
    for path in written.values():
        assert str(pydicom.dcmread(path).PatientName) == f"{_TEXT}^JANE"
    _assert_clean(caplog.text + " ".join(str(item.message) for item in recwarn), "logs and warnings")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder, files: files[2].unlink(),
        lambda folder, files: [path.write_bytes(path.read_bytes()[:-30]) for path in files],
        lambda folder, files: [files.pop(2).unlink(), *map(_misplace_name, files)],
        lambda folder, files: [_claim_ct(path) for path in files],
        lambda folder, files: [_break_values(path) for path in files],
        lambda folder, files: [_claim_rle(path) for path in files],
        lambda folder, files: [path.unlink() for path in files],
    ],
)
def test_errors_and_logs_name_nobody(
    tmp_path: Path, damage, caplog: pytest.LogCaptureFixture, recwarn, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / f"{_TEXT}^JANE"
    damage(folder, write_series(folder, edit=_plant))
    with pytest.raises(SpineClientError) as caught:
        read_dicom(folder)
    _assert_clean("".join(traceback.format_exception(caught.value)), "traceback")
    _assert_clean(repr(caught.value), "repr of the error")
    for flags in ([], ["--json"]):
        assert main(["analyze", str(folder), *flags]) in (2, 3)
        output = capsys.readouterr()
        _assert_clean(output.out + output.err, "output of the command line")
    _assert_clean(caplog.text, "log")
    _assert_clean(" ".join(str(item.message) for item in recwarn), "warnings")


def test_what_triton_says_about_a_request_is_not_repeated(serve, tmp_path: Path) -> None:
    write_series(tmp_path)
    _, client = serve(fails(grpc.StatusCode.INTERNAL, f"model.py line 3: cannot read {_TEXT}"))
    with pytest.raises(SpineClientError) as caught:
        client.analyze(tmp_path)
    _assert_clean("".join(traceback.format_exception(caught.value)), "traceback")


def test_pydicoms_own_warnings_are_back_after_reading(tmp_path: Path) -> None:
    write_series(tmp_path)
    read_dicom(tmp_path)
    inspect_dicom(tmp_path)
    with pytest.warns(UserWarning, match="Invalid value"):
        pydicom.uid.UID("1.2.x")


def test_the_reader_never_holds_identifying_elements(tmp_path: Path) -> None:
    """Description and protocol are the only free text it takes, and they stay out of every repr."""
    write_series(tmp_path, edit=_plant)
    frame = inspect_dicom(tmp_path)[0][0].frames[0]
    assert _TEXT not in repr(frame)


def _identify(image: pydicom.Dataset, index: int = 0) -> None:
    """What the DICOM objects written about an image take over from it."""
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = (
        f"{_TEXT}^JANE",
        _TEXT,
        _DATE,
        "O",
    )
    image.StudyInstanceUID, image.FrameOfReferenceUID = f"{_UID}.1", f"{_UID}.2"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = _DATE, "120000", "1", _TEXT
    image.ReferringPhysicianName, image.Manufacturer, image.PositionReferenceIndicator = _TEXT, "TEST", ""


def _rewrite(path: Path, edit) -> None:
    image = pydicom.dcmread(path)
    edit(image)
    image.save_as(path)


def _claim_ct(path: Path) -> None:
    _rewrite(path, lambda image: setattr(image, "Modality", "CT"))


def _claim_rle(path: Path) -> None:
    from dicom_writer import pretend_syntax

    _rewrite(path, lambda image: pretend_syntax(image, "1.2.840.10008.1.2.5"))


def _misplace_name(path: Path) -> None:
    """A name where a UID belongs: pydicom quotes it in a warning and in its log."""
    path.write_bytes(path.read_bytes().replace(_UID.encode(), f"{_TEXT}^JANE".encode()))


def _break_values(path: Path) -> None:
    content = path.read_bytes()
    position = content.index(b"-20.0")
    path.write_bytes(content[:position] + b"x^y!z" + content[position + 5 :])


def test_helpers_break_what_they_say(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    _break_values(paths[0])
    assert len(paths) == SLICES
    with pytest.raises(ValueError, match="could not convert"):
        float(pydicom.dcmread(paths[0]).ImagePositionPatient[1])
    set_pixels(pydicom.Dataset(), np.zeros((2, 2), np.int16))
