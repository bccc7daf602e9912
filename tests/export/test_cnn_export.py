"""The measurement CNN's checkpoint becomes a Triton model that answers in mm as torch does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from spine_export.files import sha256
from spine_export.networks import export_cnn
from spine_training.measurement import checkpoint
from spine_training.measurement.network import MeasurementNet
from spinecore.errors import ModelError


def _checkpoint(path: Path) -> Path:
    torch.manual_seed(4)
    network = MeasurementNet(target_mean=(7.0, 8.0, 6.0, 7.0, 13.0), target_std=(2.0, 2.0, 1.5, 1.5, 3.0))
    checkpoint.save(path, network, half=True)
    return path


def test_the_onnx_file_equals_torch_and_describes_itself(tmp_path: Path) -> None:
    source = _checkpoint(tmp_path / "cnn.pt")
    done = export_cnn(source, repository=tmp_path / "repository", trained_on="phantoms")
    patches = np.random.default_rng(0).standard_normal((3, 8, 64, 64, 32), dtype=np.float32)
    session = onnxruntime.InferenceSession(done.folder / "model.onnx", providers=["CPUExecutionProvider"])
    heights, canal = session.run(["DISC_HEIGHT_MM", "CANAL_AP_MM"], {"PATCHES": patches})
    with torch.inference_mode():
        expected = checkpoint.load(source)(torch.from_numpy(patches))
    assert heights.shape == (3, 4)
    assert canal.shape == (3, 1)
    np.testing.assert_allclose(heights, expected[0].numpy(), atol=1e-3)
    np.testing.assert_allclose(canal, expected[1].numpy(), atol=1e-3)
    description = json.loads((done.folder / "measure.json").read_text())
    assert description["sha256"] == sha256((done.folder / "model.onnx").read_bytes())
    assert description["patch_shape"] == [8, 64, 64, 32]
    assert description["trained_on"] == "phantoms"


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.pt is missing"):
        export_cnn(tmp_path / "none.pt", repository=tmp_path)


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    damaged, foreign = tmp_path / "damaged.pt", tmp_path / "foreign.pt"
    damaged.write_bytes(b"{}")
    torch.save({"weights": {}}, foreign)
    for path in (damaged, foreign):
        with pytest.raises(ModelError, match=rf"{path.stem}\.pt is damaged, or no checkpoint"):
            export_cnn(path, repository=tmp_path / "repository")
    assert not (tmp_path / "repository").exists()
