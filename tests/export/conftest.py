"""Results folders as nnU-Net writes them, small; fitted where a test needs logits without near-ties."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the export needs torch, which only `make test` installs")
pytest.importorskip("nnunetv2", reason="the export needs nnunetv2, which only `make test` installs")
os.environ.setdefault("nnUNet_def_n_proc", "1")

import torch

from spine_export.parity.cases import CASES
from spine_export.parity.results import Kind, write_results

Edit = Callable[[dict[str, Any]], object]
"""Changes a JSON file's content in place."""


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Networks this small lose more by waiting for threads than they gain."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def plain_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An isotropic network of one channel with random weights."""
    return write_results(tmp_path_factory.mktemp("plain") / "results", Kind(patch=(8, 12, 16)))


@pytest.fixture(scope="session")
def fitted_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kind of network, fitted: its classes are apart."""
    return write_results(tmp_path_factory.mktemp("fitted") / "results", Kind(), steps=20)


@pytest.fixture(scope="session")
def odd_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything our own network is not: two folds, channels, masks, a transpose, regions, mirroring."""
    kind = CASES["anisotropic, transposed, 2 channels"].kind
    odd = Kind(
        spacing=kind.spacing,
        patch=(8, 16, 12),
        transpose=kind.transpose,
        normalization=kind.normalization,
        use_mask=kind.use_mask,
        labels=CASES["regions"].kind.labels,
        regions_class_order=(1, 2, 3),
        folds=2,
        mirror_axes=(0, 2),
    )
    return write_results(tmp_path_factory.mktemp("odd") / "results", odd)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a results folder, to break."""

    def copied(results: Path) -> Path:
        return shutil.copytree(results, tmp_path / "broken")

    return copied
