"""Segmentation and structured report: read back, and valid by an independent validator."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_writer import COLUMNS, ROWS, SLICES, write_enhanced, write_series
from fake_triton import report_dict

from spine_client._report_parser import parse_report
from spine_client.dicom import read_dicom
from spine_client.errors import InputError, MissingExtra
from spine_client.result import SpineResult
from spine_client.volume import Volume

highdicom = pytest.importorskip("highdicom", reason="the extra «dicom» is not installed")


def _identify(image: pydicom.Dataset, index: int = 0) -> None:
    """What a scanner's image always has, and the other tests do without."""
    image.PatientID, image.PatientName, image.PatientBirthDate, image.PatientSex = (
        "P1",
        "A^B",
        "19700101",
        "O",
    )
    image.StudyInstanceUID, image.FrameOfReferenceUID = "1.2.826.0.1.99.1", "1.2.826.0.1.99.2"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20200101", "120000", "1", "2"
    image.ReferringPhysicianName = ""
    image.Manufacturer, image.PositionReferenceIndicator = "TEST", ""


def _labels() -> np.ndarray:
    labels = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    labels[1:4, 0:4, 2:6] = 23
    labels[1:4, 4:6, 2:6] = 123
    labels[1:4, 6:10, 2:6] = 24
    labels[2:5, 10:12, 2:6] = 26
    labels[1:5, 1:11, 7:9] = 61
    labels[1:2, 0:2, 0:2] = 71
    return labels


def _result(volume: Volume, **changes: Any) -> SpineResult:
    bodies = [
        {
            "name": name,
            "label": label,
            "centroid_lps_mm": [0.0, 0.0, 0.0],
            "volume_mm3": 9.0,
            "complete": True,
        }
        for name, label in (("L4", 23), ("L5", 24), ("S1", 26), (None, 71))
    ]
    report = report_dict(**({"vertebrae": bodies} | changes))
    return SpineResult(_labels(), volume, parse_report(json.dumps(report)), "0123")


@pytest.fixture
def result(tmp_path: Path) -> SpineResult:
    """Labels on a DICOM series of a patient."""
    write_series(tmp_path / "source", edit=_identify)
    return _result(read_dicom(tmp_path / "source"))


@pytest.fixture
def written(result: SpineResult, tmp_path: Path) -> dict[str, Path]:
    return result.save(tmp_path / "out", formats=["sr"])


def test_report_brings_the_segmentation_that_it_references(written: dict[str, Path]) -> None:
    assert {name: path.name for name, path in written.items()} == {
        "seg": "segmentation.dcm",
        "sr": "measurements.dcm",
    }
    segmentation, report = (pydicom.dcmread(written[name]) for name in ("seg", "sr"))
    assert segmentation.SOPInstanceUID in str(report.ContentSequence)
    evidence = str(report.CurrentRequestedProcedureEvidenceSequence)
    source = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len(source) == SLICES
    assert all(item.ReferencedSOPInstanceUID in evidence for item in source)


def _placed_labels(path: Path, result: SpineResult) -> np.ndarray:
    """Labels of the written segmentation, looked up at the voxel centres of the result."""
    read = highdicom.seg.segread(path)
    volume = read.get_volume(combine_segments=True)
    numbers = {item.SegmentNumber: item.SegmentLabel for item in read.SegmentSequence}
    titles = {"L4": 23, "L5": 24, "S1": 26, "#1": 71, "L4/L5": 123, "Spinal canal": 61}
    to_label = np.array([0, *(titles[numbers[n]] for n in sorted(numbers))], np.uint8)
    z, y, x = np.indices(result.labels.shape)
    lps = result.affine @ np.stack([x, y, z, np.ones_like(x)]).reshape(4, -1)
    index = np.round((np.linalg.inv(volume.affine) @ lps)[:3]).astype(int)
    inside = ((index >= 0) & (index < np.array(volume.array.shape)[:, None])).all(axis=0)
    found = np.zeros(result.labels.size, np.uint8)
    found[inside] = to_label[volume.array[tuple(index[:, inside])]]
    return found.reshape(result.labels.shape)


def test_segmentation_reads_back_voxel_by_voxel_in_place(
    written: dict[str, Path], result: SpineResult
) -> None:
    np.testing.assert_array_equal(_placed_labels(written["seg"], result), result.labels)


def test_segments_are_coded(written: dict[str, Path]) -> None:
    segments = pydicom.dcmread(written["seg"]).SegmentSequence
    coded = {
        item.SegmentLabel: (
            item.SegmentedPropertyTypeCodeSequence[0].CodeValue,
            item.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator,
        )
        for item in segments
    }
    assert coded == {
        "L4": ("11994002", "SCT"),
        "L5": ("49668003", "SCT"),
        "S1": ("54735007", "SCT"),
        "#1": ("51282000", "SCT"),
        "L4/L5": ("84020006", "SCT"),
        "Spinal canal": ("61853006", "SCT"),
    }
    algorithm = segments[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("spine-demo", "1")


def test_every_measurement_has_its_value_unit_site_and_method(written: dict[str, Path]) -> None:
    report = highdicom.sr.srread(written["sr"])
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    assert group.tracking_identifier == "L4/L5"
    rows = set()
    for item in group.get_measurements():
        site = item.finding_sites[0]
        place = site.topographical_modifier.meaning if site.topographical_modifier else ""
        derivation = item.derivation.meaning if item.derivation else ""
        assert item.unit.value == "mm"
        rows.add((item.name.value, item.value, site.value.value, place, derivation, item.method.value))
    disc, canal = "84020006", "61853006"
    geometric = [
        (10.0, "Anterior", ""),
        (9.0, "Middle of disc", ""),
        (8.0, "Posterior", ""),
        (9.1, "", "Mean"),
    ]
    cnn = [(10.0, "Anterior", ""), (9.0, "Middle of disc", ""), (8.0, "Posterior", ""), (9.4, "", "Mean")]
    assert rows == {
        *(("121207", value, disc, place, how, "GEOMETRIC") for value, place, how in geometric),
        *(("121207", value, disc, place, how, "CNN") for value, place, how in cnn),
        ("CANAL_AP", 14.2, canal, "", "", "GEOMETRIC"),
    }


_ERRORS = {"anterior": 0.5, "middle": 0.4, "posterior": 0.6, "mean": 0.3}


def _with_errors(volume: Volume) -> SpineResult:
    """A report of version 1.1: combined values, and standard errors of some."""
    disc = report_dict()["discs"][0]
    heights = disc["height_mm"]["geometric"]
    disc["height_mm"] |= {
        "reported": heights | {"mean": 9.2},
        "standard_error_mm": {"geometric": _ERRORS, "cnn": None, "reported": _ERRORS | {"mean": 0.2}},
    }
    disc["canal_ap_mm"] |= {
        "reported": 14.1,
        "standard_error_mm": {"geometric": 0.9, "cnn": None, "reported": 0.7},
    }
    return _result(volume, discs=[disc], schema_version="1.1")


def test_every_measurement_states_its_error_in_mm_where_it_is_known(
    result: SpineResult, tmp_path: Path
) -> None:
    path = _with_errors(result.volume).save(tmp_path / "errors", formats=["sr"])["sr"]
    (group,) = highdicom.sr.srread(path).content.get_volumetric_roi_measurement_groups()
    stated = {}
    for item in group.get_measurements():
        bounds = [
            (child.MeasuredValueSequence[0].NumericValue, child.MeasuredValueSequence[0])
            for child in item[0].ContentSequence
            if child.ConceptNameCodeSequence[0].CodeValue in ("371886008", "371885007")
        ]
        assert {b.MeasurementUnitsCodeSequence[0].CodeValue for _, b in bounds} <= {"mm"}
        site = item.finding_sites[0].topographical_modifier
        key = (item.method.value, item.name.value, site.meaning if site else "")
        stated[key] = (float(item.value), [float(value) for value, _ in bounds])
    assert stated["GEOMETRIC", "121207", ""] == (9.1, [0.3, 0.3])
    assert stated["GEOMETRIC", "121207", "Anterior"] == (10.0, [0.5, 0.5])
    assert stated["COMBINED", "121207", ""] == (9.2, [0.2, 0.2])
    assert stated["COMBINED", "CANAL_AP", ""] == (14.1, [0.7, 0.7])
    assert stated["CNN", "121207", ""] == (9.4, [])
    assert _errors_of_dciodvfy(path) == []


def test_patient_and_study_are_those_of_the_source(written: dict[str, Path]) -> None:
    for path in written.values():
        dataset = pydicom.dcmread(path)
        assert (dataset.PatientID, dataset.StudyInstanceUID) == ("P1", "1.2.826.0.1.99.1")
        assert dataset.SeriesInstanceUID not in ("", "1.2.826.0.1.3680043.8.498.1")


def test_same_result_gets_the_same_identifiers(
    written: dict[str, Path], result: SpineResult, tmp_path
) -> None:
    again = result.save(tmp_path / "again", formats=["seg"])
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in (written["seg"], again["seg"])]
    assert uids[0] == uids[1]


@pytest.mark.parametrize("name", ["seg", "sr"])
def test_independent_validator_finds_no_error(written: dict[str, Path], name: str) -> None:
    assert _errors_of_dciodvfy(written[name]) == []


def _errors_of_dciodvfy(path: Path) -> list[str]:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools is not installed")
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    errors = [line for line in run.stderr.splitlines() if line.startswith("Error")]
    assert errors or run.returncode == 0
    return errors


_PIXELMED = Path("/usr/share/java/pixelmed.jar")
_NO_LIMITS = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprGrp", "ExprOp", "TotalOp")]
"""Java's limits on style sheets are made for hostile ones; the rules of DICOM are longer."""


@pytest.mark.slow
@pytest.mark.timeout(1800)  # it compiles 6 MB of style sheets first
@pytest.mark.skipif(not _PIXELMED.is_file(), reason="Debian's libpixelmed-java is not installed")
@pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java")
def test_report_follows_template_1500_by_pixelmeds_validator(result: SpineResult, tmp_path: Path) -> None:
    """dciodvfy knows modules and attributes; this one knows the templates (PS3.16) with their rows.

    It takes each stated error (row of TID 310, HAS PROPERTIES) for one of the rows of TID 1419 that are any
    number INFERRED FROM others, so that complaint is expected; nothing else is.
    """
    path = _with_errors(result.volume).save(tmp_path / "errors", formats=["sr"])["sr"]
    command = [
        "java",
        *_NO_LIMITS,
        "-cp",
        str(_PIXELMED),
        "com.pixelmed.validate.DicomSRValidator",
        str(path),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Found Root Template TID_1500 (MeasurementReport)" in said
    assert "Root Template Validation Complete" in said and "IOD validation complete" in said
    errors = [line for line in said.splitlines() if line.startswith("Error")]
    stated = [line for line in errors if "range of" in line and "measurement uncertainty" in line]
    assert errors == stated
    assert all(line.endswith("expected INFERRED FROM - found HAS PROPERTIES") for line in stated)


def test_enhanced_multi_frame_source(tmp_path: Path) -> None:
    def edit(image: pydicom.Dataset) -> None:
        _identify(image)
        image.AcquisitionDateTime = "20200101120000"

    write_enhanced(tmp_path / "enhanced.dcm", edit)
    result = _result(read_dicom(tmp_path / "enhanced.dcm"))
    path = result.save(tmp_path / "out", formats=["seg"])["seg"]
    np.testing.assert_array_equal(_placed_labels(path, result), result.labels)


def test_in_memory_source(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "source", edit=_identify)
    result = _result(read_dicom([pydicom.dcmread(path) for path in paths]))
    shutil.rmtree(tmp_path / "source")
    path = result.save(tmp_path / "out", formats=["seg"])["seg"]
    np.testing.assert_array_equal(_placed_labels(path, result), result.labels)


def _refusal(result: SpineResult, tmp_path: Path, formats: list[str]) -> str:
    with pytest.raises(InputError) as caught:
        result.save(tmp_path / "refused", formats=formats)
    return caught.value.code


def test_what_cannot_be_written_is_refused(result: SpineResult, tmp_path: Path) -> None:
    array = Volume(result.volume.voxels, result.affine)
    assert _refusal(_result(array), tmp_path, ["seg"]) == "no_dicom_source"
    nothing = SpineResult(np.zeros_like(result.labels), result.volume, result.report, "id")
    assert _refusal(nothing, tmp_path, ["seg"]) == "nothing_found"
    assert _refusal(_result(result.volume, discs=[]), tmp_path, ["sr"]) == "nothing_measured"
    shutil.rmtree(tmp_path / "source")
    assert _refusal(result, tmp_path, ["seg"]) == "source_gone"


def test_source_without_study_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "bare")
    assert _refusal(_result(read_dicom(tmp_path / "bare")), tmp_path, ["seg"]) == "incomplete_source"


def test_dicom_is_never_written_unasked(result: SpineResult, tmp_path: Path) -> None:
    assert not {"seg", "sr"} & set(result.save(tmp_path / "default"))


def test_missing_highdicom_names_the_extra(
    result: SpineResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spine_client.dicom_out import write_segmentation

    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingExtra) as caught:
        write_segmentation(result, tmp_path / "x.dcm")
    assert caught.value.extra == "dicom"
