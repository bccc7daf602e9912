"""A site's dry run: six labelled pairs go through the README's commands and come out served."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spinecore.phantom import PhantomConfig, make_phantom
from spinecore.phantom.io import write_nifti, write_truth

ROOT = Path(__file__).resolve().parents[2]
REGIONS = ("lumbar", "cervical", "lumbar", "thoracic", "cervical", "lumbar")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pairs"
    for number, region in enumerate(REGIONS):
        config = PhantomConfig(
            seed=71 + number,
            region=region,
            contrast="t2",
            spacing_mm=(2.5, 2.5, 2.5),
            fov_mm=(150.0, 100.0, 60.0),
        )
        phantom = make_phantom(config)
        write_nifti(phantom, folder / f"case{number}")
        write_truth(phantom, folder / f"case{number}.truth.json")
    return folder


def spine_train(*arguments: object, cwd: Path) -> str:
    """Run one command of the README in `cwd`."""
    command = [sys.executable, "-m", "spine_training.cli", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_six_pairs_come_out_served(pairs: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "model_repository", tmp_path / "repository")
    tiny = ("--patch", 32, 32, 16, "--features", 4, 8)
    run = ("--work", "run")
    spine_train(*run, "data", "--pairs", pairs, *tiny, cwd=tmp_path)
    again = spine_train(*run, "data", "--pairs", pairs, *tiny, cwd=tmp_path)
    assert "0 cases added" in again
    spine_train(*run, "segment", "--epochs", 1, "--iterations-per-epoch", 4, cwd=tmp_path)
    spine_train(*run, "measure", "--pairs", pairs, "--epochs", 1, cwd=tmp_path)
    released = ("--model-version", "site-1", "--trained-on", "six phantoms")
    into = ("--into", "repository", "--weights", "weights", "--curves", "curves")
    spine_train(*run, "export", *into, *released, cwd=tmp_path)
    spine_train("evaluate", pairs, "--repository", "repository", "--out", "result", cwd=tmp_path)
    content = json.loads((tmp_path / "result" / "evaluation.json").read_text())
    assert content["summary"]["cases"] == 6 and content["failures"] == {}
    models = content["models"]
    assert {m["version"] for m in models.values()} == {"site-1"}
    assert {m["trained_on"] for m in models.values()} == {"six phantoms"}
    assert content["references"] == ["the phantoms' surfaces"]
    for name in ("evaluation.md", "evaluation.html"):
        assert "Table 5" in (tmp_path / "result" / name).read_text()
    recorded = json.loads((tmp_path / "weights" / "nnunet" / "provenance.json").read_text())
    assert recorded["dataset"]["training_cases"] == 5 and recorded["dataset"]["validation_cases"] == 1
    onnx = json.loads((tmp_path / "repository" / "nnunet" / "1" / "network.json").read_text())
    assert recorded["published"]["model.onnx"] == onnx["sha256"]
    assert (tmp_path / "curves" / "segmentation.png").is_file()
    assert (tmp_path / "curves" / "measurement.png").is_file()
