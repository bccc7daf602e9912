"""Results: as a dictionary, as JSON, as files."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from fake_triton import good_answer, report_dict

from spine_client.errors import InputError, MissingExtra
from spine_client.notices import Notice
from spine_client.rows import DISC_COLUMNS
from spine_client.volume import Volume


@pytest.fixture
def result(serve, volume: Volume):
    noted = dataclasses.replace(volume, notices=(Notice("not_dicom", "1 of the files were skipped"),))
    return serve()[1].analyze(noted)


def test_to_dict_is_the_report_with_the_readers_warnings(result) -> None:
    content = result.to_dict()
    assert content["schema_version"] == "1.0"
    assert [warning["code"] for warning in content["warnings"]] == ["not_dicom", "demo_weights"]
    assert [warning.code for warning in result.warnings] == ["not_dicom", "demo_weights"]
    assert len(result.report.raw["warnings"]) == 1
    assert json.loads(result.to_json()) == content


def test_save_writes_all_formats(result, tmp_path: Path) -> None:
    written = result.save(tmp_path / "new" / "out")
    assert {name: path.name for name, path in written.items()} == {
        "json": "report.json",
        "nifti": "labels.nii.gz",
        "overlay": "overlay.png",
        "html": "report.html",
    }
    assert json.loads(written["json"].read_text()) == result.to_dict()
    image = nibabel.load(written["nifti"])
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), result.labels)
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ image.affine, result.affine)
    assert written["overlay"].read_bytes()[:4] == b"\x89PNG"


def test_save_writes_what_is_asked_for(result, tmp_path: Path) -> None:
    assert set(result.save(tmp_path, formats=["json"])) == {"json"}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_unknown_format_is_refused(result, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        result.save(tmp_path, formats=["pdf"])


def test_missing_package_is_named_before_anything_is_written(
    result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spine_client.saving.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"spineserve-client\[nifti\]"):
        result.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_reading_nifti_without_nibabel_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spine_client.nifti import read_nifti

    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtra) as caught:
        read_nifti(tmp_path / "v.nii")
    assert caught.value.extra == "nifti"


def test_frame_has_a_row_per_disc_and_numbers_in_mm(result) -> None:
    frame = result.to_frame()
    assert list(frame.columns) == list(DISC_COLUMNS)
    row = frame.loc[0]
    assert (row.disc, row.height_anterior_mm, row.height_mean_cnn_mm) == ("L4/L5", 10.0, 9.4)
    assert np.isnan(row.canal_ap_cnn_mm) and np.isnan(row.canal_ap_standard_error_mm)
    assert (row["complete"], row["flags"]) == (True, "")
    assert {str(frame[name].dtype) for name in DISC_COLUMNS if name.endswith("_mm")} == {"float64"}


def test_frame_has_combined_lengths_and_their_errors(serve, volume: Volume) -> None:
    disc = report_dict()["discs"][0]
    heights = disc["height_mm"]["geometric"]
    disc["height_mm"] |= {"reported": heights, "standard_error_mm": {"reported": heights | {"mean": 0.3}}}
    disc["canal_ap_mm"] |= {"reported": 14.0, "standard_error_mm": {"reported": 0.7}}
    _, client = serve(lambda request, context: good_answer(request, discs=[disc]))
    row = client.analyze(volume).to_frame().loc[0]
    assert (row.height_mean_reported_mm, row.height_mean_standard_error_mm) == (9.1, 0.3)
    assert (row.canal_ap_reported_mm, row.canal_ap_standard_error_mm) == (14.0, 0.7)


def test_frame_of_a_result_without_discs_has_the_same_columns(serve, volume: Volume) -> None:
    _, client = serve(lambda request, context: good_answer(request, discs=[]))
    frame = client.analyze(volume).to_frame()
    assert (len(frame), list(frame.columns)) == (0, list(DISC_COLUMNS))
    assert str(frame.canal_ap_mm.dtype) == "float64"


def test_frame_without_pandas_names_the_extra(result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"spineserve-client\[pandas\]"):
        result.to_frame()


def test_results_are_frozen(result) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.request_id = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.discs[0].name = "L9"
    with pytest.raises(ValueError, match="read-only"):
        result.labels[0, 0, 0] = 1
