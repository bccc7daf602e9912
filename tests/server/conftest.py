"""A repository that starts in a second: the entry ensemble over one stage that needs no network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from spine_server.repository import default_repository

_STAGE = """
import numpy as np
from spine_server.model_support import Stage


class TritonPythonModel(Stage):
    def handle(self, request):
        volume = request.volume()
        labels = np.zeros(volume.voxels.shape[1:], np.uint8)
        return {"LABELS": labels, "REPORT": np.array([b"{}"], object)}
"""


@pytest.fixture
def tiny_repository(tmp_path: Path) -> Path:
    """A complete repository whose `spine_mri` answers an empty label map and report."""
    repository = tmp_path / "model_repository"
    entry = (default_repository() / "spine_mri" / "config.pbtxt").read_text()
    tensors = entry[entry.index("input [") : entry.index("ensemble_scheduling")]
    stage = repository / "stage"
    (stage / "1").mkdir(parents=True)
    (stage / "1" / "model.py").write_text(_STAGE)
    (stage / "config.pbtxt").write_text('backend: "python"\nmax_batch_size: 0\n' + tensors)
    names = ("VOLUME", "SHAPE", "DTYPE", "AFFINE", "OPTIONS")
    maps = "".join(f'input_map {{ key: "{name}" value: "{name}" }}\n' for name in names)
    maps += "".join(f'output_map {{ key: "{name}" value: "{name}" }}\n' for name in ("LABELS", "REPORT"))
    step = f'ensemble_scheduling {{ step [ {{ model_name: "stage" model_version: -1 {maps} }} ] }}\n'
    (repository / "spine_mri" / "1").mkdir(parents=True)
    (repository / "spine_mri" / "config.pbtxt").write_text(
        'platform: "ensemble"\nmax_batch_size: 0\n' + tensors + step
    )
    return repository


@pytest.fixture
def repository_copy(tmp_path: Path) -> Path:
    """The checkout's own repository, to break."""
    return shutil.copytree(default_repository(), tmp_path / "copy")
