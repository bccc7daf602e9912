"""The scripts of `client/examples` run as they are, against the real server; the PACS one in `tests/pacs`."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest

from spine_server import EmbeddedTriton
from spinecore.phantom import Phantom
from spinecore.phantom.io import write_dicom, write_nifti, write_npz

EXAMPLES = Path(__file__).resolve().parents[2] / "client" / "examples"


@pytest.fixture(scope="module")
def data(lumbar_phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom as a DICOM folder, a zip archive, NIfTI and npz."""
    folder = tmp_path_factory.mktemp("examples")
    with zipfile.ZipFile(folder / "study.zip", "w") as packed:
        for path in write_dicom(lumbar_phantom, folder / "study"):
            packed.write(path, path.name)
    write_nifti(lumbar_phantom, folder)
    write_npz(lumbar_phantom, folder)
    return folder


def run(server: EmbeddedTriton, name: str, *arguments: object, fails: bool = False) -> str:
    """What the script prints."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments), "--url", server.grpc_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode != 0) == fails, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_there_are_five_and_each_is_short() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 5
    assert all(len(path.read_text().splitlines()) <= 60 for path in scripts)


def test_one_series(server: EmbeddedTriton, data: Path, tmp_path: Path) -> None:
    printed = run(server, "one_series.py", data / "study.zip", "--out", tmp_path / "out")
    assert printed.count("canal AP") >= 4
    assert (tmp_path / "out" / "report.json").is_file()


def test_one_series_that_is_not_there(server: EmbeddedTriton, tmp_path: Path) -> None:
    assert "no_such_path" in run(server, "one_series.py", tmp_path / "gone", fails=True)


def test_async_batch(server: EmbeddedTriton, data: Path, tmp_path: Path) -> None:
    printed = run(server, "async_batch.py", data / "study", tmp_path / "gone", fails=True)
    assert "#0: " in printed and " discs in " in printed
    assert "#1: InputError" in printed


def test_pandas_study(server: EmbeddedTriton, data: Path, tmp_path: Path) -> None:
    volumes = [data / "study", data / "image.nii.gz"]
    printed = run(server, "pandas_study.py", *volumes, "--csv", tmp_path / "discs.csv")
    assert "difference_mm" in printed
    table = pandas.read_csv(tmp_path / "discs.csv")
    assert set(table["study"]) == {0, 1}
    assert table["canal_ap_mm"].dropna().between(5, 30).all()


def test_plain_tritonclient_gets_what_the_sdk_gets(server: EmbeddedTriton, data: Path) -> None:
    from spine_client import SpineClient

    printed = run(server, "plain_tritonclient.py", data / "phantom.npz")
    with np.load(data / "phantom.npz") as content, SpineClient(server.grpc_url) as client:
        result = client.analyze((content["image"].astype(np.int16), content["affine"]), region="lumbar")
    assert f"values {np.unique(result.labels).tolist()}" in printed
    assert printed.count("canal") + printed.count("geometric") >= len(result.discs)
