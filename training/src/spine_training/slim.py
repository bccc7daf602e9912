"""Slim checkpoints: an nnU-Net results folder with weights only, small enough to commit.

The folder is still one that nnU-Net's predictor and `spine-export nnunet` read; the optimiser is left out and
the weights are float16, the precision they are exported in anyway.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

FINAL = "checkpoint_final.pth"


def write_slim_results(results: Path, target: Path, *, checkpoint: str = FINAL) -> Path:
    """Copy plans and dataset.json, and the weights of fold 0 as float16; returns `target`."""
    state = torch.load(results / "fold_0" / checkpoint, map_location="cpu", weights_only=False)
    (target / "fold_0").mkdir(parents=True, exist_ok=True)
    for name in ("plans.json", "dataset.json"):
        shutil.copyfile(results / name, target / name)
    aside = target / "fold_0" / f".{FINAL}"
    torch.save(_slim(state), aside)
    aside.replace(target / "fold_0" / FINAL)
    return target


def _slim(state: dict[str, Any]) -> dict[str, Any]:
    """Plain tensors, numbers and strings only: loadable with weights_only=True."""
    # nnU-Net's networks register each module under several names; one storage, as in the original file.
    half: dict[int, torch.Tensor] = {}
    weights = state["network_weights"]
    return {
        "network_weights": {key: half.setdefault(w.data_ptr(), w.half()) for key, w in weights.items()},
        "trainer_name": str(state["trainer_name"]),
        "init_args": {"configuration": str(state["init_args"]["configuration"])},
        "inference_allowed_mirroring_axes": None,
        "current_epoch": int(state["current_epoch"]),
        "training": json.loads(json.dumps(state.get("spine_schedule", {}))),
    }
