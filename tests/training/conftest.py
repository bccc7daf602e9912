"""A tiny but real nnU-Net training: phantoms, nnU-Net's planner and preprocessor, two iterations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which only `make test` installs")
pytest.importorskip("nnunetv2", reason="training needs nnunetv2, which only `make test` installs")

from spine_training import dataset, plans, segment  # noqa: E402
from spine_training.schedule import EPOCHS_ENV, ITERATIONS_ENV  # noqa: E402
from spine_training.workspace import DEMO_CONFIGURATION, Workspace  # noqa: E402

TINY_PATCH = (32, 32, 16)
TINY_FEATURES = (4, 8)
PROCESSES = "nnUNet_n_proc_DA"
VARIABLES = (
    *(f"nnUNet_{name}" for name in ("raw", "preprocessed", "results", "extTrainer", "n_proc_DA")),
    EPOCHS_ENV,
    ITERATIONS_ENV,
)


@pytest.fixture(scope="session")
def nnunet_environment() -> Iterator[None]:
    """The environment variables of a training as they were, afterwards."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ[PROCESSES] = "1"  # nnU-Net's planner wants at least one
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def tiny_workspace(nnunet_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three small phantoms, planned by nnU-Net and preprocessed, with a tiny patch and network."""
    from spinecore.phantom import PhantomConfig, make_phantom

    workspace = Workspace(tmp_path_factory.mktemp("training"))
    workspace.activate()
    for seed in (0, 1, 10_000):
        config = PhantomConfig(
            seed=seed, region="lumbar", contrast="t2", spacing_mm=(2.5, 2.5, 2.5), fov_mm=(120.0, 90.0, 50.0)
        )
        phantom = make_phantom(config)
        dataset.write_raw_case(
            workspace, dataset.case_name(seed), phantom.image, phantom.classes, phantom.affine
        )
    dataset.write_dataset_json(workspace)
    made = plans.make_plans(workspace)
    tiny = plans.fixed_plans(made, patch_size=TINY_PATCH, demo_features=TINY_FEATURES)
    plans.write_plans(workspace, tiny)
    dataset.preprocess_cases(workspace, dataset.raw_cases(workspace))
    return workspace


@pytest.fixture(scope="session")
def tiny_results(tiny_workspace: Workspace) -> Path:
    """nnU-Net's results folder after one epoch of two iterations."""
    return segment.train_segmentation(
        tiny_workspace, configuration=DEMO_CONFIGURATION, epochs=1, iterations_per_epoch=2, seed=3
    )
