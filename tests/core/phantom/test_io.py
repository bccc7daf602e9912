"""What is written can be read back by pydicom and nibabel, with the same voxels and the same geometry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from spinecore.phantom import Phantom, PhantomConfig, make_phantom
from spinecore.phantom.__main__ import main
from spinecore.phantom.io import write_dicom, write_nifti

NIBABEL: Any = nibabel


def read(path: Path) -> Any:
    return NIBABEL.load(path)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(
        PhantomConfig(
            seed=8, region="lumbar", contrast="t2", spacing_mm=(4.0, 1.5, 1.25), orientation="PIL",
            fov_mm=(150.0, 120.0, 48.0), oblique_deg=10.0,
        )
    )  # fmt: skip


def test_a_dicom_series_keeps_voxels_and_geometry(phantom: Phantom, tmp_path: Path) -> None:
    slices = [pydicom.dcmread(path) for path in write_dicom(phantom, tmp_path)]
    assert np.array_equal(np.stack([s.pixel_array for s in slices]), phantom.image)
    for index in (0, len(slices) - 1):
        orientation = np.array(slices[index].ImageOrientationPatient, float).reshape(2, 3)
        row, column = np.array(slices[index].PixelSpacing, float)
        corner = np.array(slices[index].ImagePositionPatient, float)
        assert np.allclose(corner, (phantom.affine @ [0, 0, index, 1])[:3], atol=1e-4)
        far = corner + 7 * column * orientation[0] + 5 * row * orientation[1]
        assert np.allclose(far, (phantom.affine @ [7, 5, index, 1])[:3], atol=1e-4)
    assert len({s.SOPInstanceUID for s in slices}) == len(slices)
    assert len({s.SeriesInstanceUID for s in slices}) == 1
    assert {s.Modality for s in slices} == {"MR"}
    assert all(s.SOPInstanceUID.is_valid and s.SeriesInstanceUID.is_valid for s in slices)


def test_the_same_phantom_gives_the_same_uids(phantom: Phantom, tmp_path: Path) -> None:
    first, second = (write_dicom(phantom, tmp_path / name)[0] for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_nifti_keeps_voxels_and_geometry(phantom: Phantom, tmp_path: Path) -> None:
    image, labels, classes = (read(path) for path in write_nifti(phantom, tmp_path))
    assert np.array_equal(np.asarray(image.dataobj).T, phantom.image)
    assert np.array_equal(np.asarray(labels.dataobj).T, phantom.labels)
    assert np.array_equal(np.asarray(classes.dataobj).T, phantom.classes)
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ image.affine, phantom.affine, atol=1e-4)
    assert NIBABEL.aff2axcodes(image.affine) == ("P", "I", "L")


@pytest.mark.parametrize("kind", ["dicom", "nifti", "npz"])
def test_the_command_line_writes_what_was_asked(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "series"
    words = f"--seed 5 --region lumbar --contrast t1 --spacing 2 2 2 --fov 120 100 50 --format {kind} --truth"
    assert main([*words.split(), "--out", str(out)]) == 0
    files = len(list(out.iterdir()))
    assert files == {"dicom": files, "nifti": 3, "npz": 1}[kind] and files > 0
    truth = json.loads((tmp_path / "series.truth.json").read_text())
    assert truth["config"]["contrast"] == "t1" and truth["discs"][0]["canal_ap_mm"] > 0
    assert truth["discs"][0]["name"] in capsys.readouterr().out


def test_the_command_line_refuses_nonsense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--seed", "5", "--orientation", "XYZ", "--out", str(tmp_path)])
    assert "orientation must name" in capsys.readouterr().err
