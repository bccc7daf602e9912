"""Train the segmentation network: nnU-Net's own machinery, started and resumed from here."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spine_training.curves import draw_curve
from spine_training.plans import NetworkSizeError
from spine_training.progress import progress_bar
from spine_training.provenance import NAME as PROVENANCE
from spine_training.provenance import write_provenance
from spine_training.schedule import BUDGET_ENV, ENV_PREFIX, EPOCHS_ENV, ITERATIONS_ENV, WARM_UP_ENV
from spine_training.workspace import DEMO_CONFIGURATION, Workspace

if TYPE_CHECKING:
    from spine_training.nnunet_trainer import SpineTrainer

FOLD = 0
LATEST = "checkpoint_latest.pth"
FINAL = "checkpoint_final.pth"


def train_segmentation(
    workspace: Workspace,
    *,
    configuration: str = DEMO_CONFIGURATION,
    epochs: int | None = None,
    iterations_per_epoch: int | None = None,
    budget_s: float | None = None,
    warm_up: float | None = None,
    seed: int = 1,
    resume: bool = True,
    start_from: Path | None = None,
) -> Path:
    """Train fold 0 and return nnU-Net's results folder; goes on from the latest checkpoint if there is one.

    The length is `epochs` x `iterations_per_epoch`, or `budget_s` seconds of training in all; `warm_up` is
    the share of it on smaller patches. `start_from` is a results folder whose weights a new training begins
    with; its network may be narrower (`widen`). The seed fixes the initial weights and the order of patches,
    not the rounding of parallel sums or what the clock allows.
    """
    length = {
        EPOCHS_ENV: epochs,
        ITERATIONS_ENV: iterations_per_epoch,
        BUDGET_ENV: budget_s,
        WARM_UP_ENV: warm_up,
    }
    os.environ.update({name: str(value) for name, value in length.items() if value is not None})
    os.environ.setdefault("nnUNet_n_proc_DA", "1")
    _seed_everything(seed)
    trainer = make_trainer(workspace, configuration)
    trainer.initialize()
    latest = Path(trainer.output_folder) / LATEST
    if resume and latest.exists():
        trainer.load_checkpoint(str(latest))
    elif start_from is not None:
        trainer.start_from(weights_of(start_from))
    if start_from is not None:
        trainer.schedule.smallest_quarters = 3  # the smallest patches are for networks that know nothing yet
    results = workspace.results(configuration)
    try:
        with progress_bar(trainer.schedule, configuration):
            trainer.run_training()
    finally:
        draw_curve(results / f"fold_{FOLD}" / "curve.csv", x="iterations")
    chosen = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in length.items()}
    _record(
        workspace,
        results,
        {"seed": seed, "configuration": configuration, "started_anew": start_from is None, **chosen},
    )
    return results


def weights_of(results: Path) -> dict[str, torch.Tensor]:
    """The weights of a slim results folder, float32; NetworkSizeError where there is none."""
    checkpoint = results / f"fold_{FOLD}" / FINAL
    if not checkpoint.is_file():
        raise NetworkSizeError(f"A results folder with fold_{FOLD}/{FINAL} was expected; {results} has none.")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return {key: weight.float() for key, weight in state["network_weights"].items()}


def _record(workspace: Workspace, results: Path, settings: dict[str, Any]) -> None:
    names = ("plans.json", "dataset.json", f"fold_{FOLD}/{FINAL}", f"fold_{FOLD}/curve.csv")
    files = {name: results / name for name in names}
    write_provenance(results / PROVENANCE, files=files, settings=settings, workspace=workspace)


def make_trainer(workspace: Workspace, configuration: str) -> SpineTrainer:
    """The trainer of fold 0 on the best device there is."""
    from spine_training.nnunet_trainer import SpineTrainer

    workspace.activate()
    plans = json.loads(workspace.plans_file.read_text()) | {"continue_training": False}
    dataset_json = json.loads((workspace.preprocessed / "dataset.json").read_text())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return SpineTrainer(plans, configuration, FOLD, dataset_json, device)


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
