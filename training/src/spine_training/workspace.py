"""Where a training run keeps its files, and how nnU-Net is told about it.

One folder holds everything: ``raw/``, ``preprocessed/`` and ``results/`` are nnU-Net's three folders.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

DATASET = "Dataset201_SpinePhantom"
DATASET_ID = 201
PLANS = "SpinePlans"
PAPER_CONFIGURATION = "3d_fullres"
DEMO_CONFIGURATION = "3d_demo"
TRAINER = "SpineTrainer"

_SEARCHED_FIRST = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer"
_TRAINER_FOLDERS = "nnUNet_extTrainer"
_EXTENSION_FOLDER = Path(__file__).parent / "nnunet_ext"


@dataclass(frozen=True)
class Workspace:
    """Folders of one run under `root`. Call `activate` before anything of nnU-Net is used."""

    root: Path

    @property
    def raw(self) -> Path:
        """nnU-Net's raw folder of the phantom dataset."""
        return self.root / "raw" / DATASET

    @property
    def preprocessed(self) -> Path:
        """nnU-Net's preprocessed folder of the phantom dataset: plans, fingerprint, split."""
        return self.root / "preprocessed" / DATASET

    @property
    def plans_file(self) -> Path:
        """The plans with both configurations."""
        return self.preprocessed / f"{PLANS}.json"

    @property
    def settings_file(self) -> Path:
        """What all raw cases of a site have in common, e.g. the window."""
        return self.root / "raw" / "settings.json"

    def results(self, configuration: str) -> Path:
        """nnU-Net's results folder of one configuration."""
        return self.root / "results" / DATASET / f"{TRAINER}__{PLANS}__{configuration}"

    def activate(self) -> None:
        """Create the folders and set nnU-Net's environment variables for this process and its children."""
        for name in ("raw", "preprocessed", "results"):
            folder = self.root / name
            folder.mkdir(parents=True, exist_ok=True)
            os.environ[f"nnUNet_{name}"] = str(folder)
        register_trainer()


def register_trainer() -> None:
    """Make nnU-Net's own lookup (training, `nnUNetPredictor`) find `SpineTrainer` by its name.

    nnU-Net searches its own modules, then the folders of ``nnUNet_extTrainer``. On the way it imports
    every trainer it ships, some of which need a torchvision that fits torch exactly. So in this process the
    class is also placed where the search looks first; child processes and nnU-Net's commands use the folder.
    """
    from spine_training.nnunet_trainer import SpineTrainer

    import_module(_SEARCHED_FIRST).SpineTrainer = SpineTrainer  # type: ignore[attr-defined]
    known = [part for part in os.environ.get(_TRAINER_FOLDERS, "").split(os.pathsep) if part]
    if str(_EXTENSION_FOLDER) not in known:
        os.environ[_TRAINER_FOLDERS] = os.pathsep.join([*known, str(_EXTENSION_FOLDER)])
