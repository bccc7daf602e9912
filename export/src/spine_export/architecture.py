"""The torch network of a results folder, built by nnU-Net's own functions, and the mean over its folds."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import pydoc
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spine_export.checkpoints import Checkpoint
from spine_export.errors import Unsupported
from spinecore.errors import ModelError

_TRAINERS = "nnunetv2.training.nnUNetTrainer"
_TRAINER_FOLDERS = "nnUNet_extTrainer"


class FoldMean(nn.Module):
    """The mean of several folds' logits, taken patch by patch."""

    def __init__(self, folds: Iterable[nn.Module]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(folds)

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        """Logits (N, K, Z, Y, X) of patches (N, C, Z, Y, X)."""
        total: torch.Tensor = self.folds[0](patch)
        for fold in self.folds[1:]:
            total = total + fold(patch)
        return total / len(self.folds)


class FoldStack(nn.Module):
    """Several folds' logits one behind another, for whoever averages them after merging, as nnU-Net does."""

    def __init__(self, folds: Iterable[nn.Module]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(folds)

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        """Logits (N, folds · K, Z, Y, X) of patches (N, C, Z, Y, X)."""
        return torch.cat([fold(patch) for fold in self.folds], dim=1)


def build_network(
    plans: dict[str, Any], dataset_json: dict[str, Any], checkpoints: Sequence[Checkpoint]
) -> nn.Module:
    """The network in evaluation mode, deep supervision off; the mean of the folds where there are several."""
    first = checkpoints[0]
    for other in checkpoints[1:]:
        if (other.trainer, other.configuration) != (first.trainer, first.configuration):
            raise ModelError(
                f"{first.place} and {other.place} come from different trainers or configurations."
            )
    networks = [build_fold(plans, dataset_json, checkpoint) for checkpoint in checkpoints]
    network = networks[0] if len(networks) == 1 else FoldMean(networks)
    return network.eval()


def build_fold(plans: dict[str, Any], dataset_json: dict[str, Any], checkpoint: Checkpoint) -> nn.Module:
    """One fold's network with its weights.

    Built by the trainer where nnU-Net finds it (``nnUNet_extTrainer`` included), by the plans otherwise: a
    trainer that only changes the training builds the plans' network, and if it does not, its weights will not
    fit.
    """
    network = _architecture(plans, dataset_json, checkpoint)
    if hasattr(network, "decoder") and hasattr(network.decoder, "deep_supervision"):
        network.decoder.deep_supervision = False
    _load_weights(network, checkpoint.weights, checkpoint)
    return network.eval()


def _architecture(plans: dict[str, Any], dataset_json: dict[str, Any], checkpoint: Checkpoint) -> nn.Module:
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    configuration = manager.get_configuration(checkpoint.configuration)
    channels = determine_num_input_channels(manager, configuration, dataset_json)
    heads = manager.get_label_manager(dataset_json).num_segmentation_heads
    build = find_trainer(checkpoint.trainer).build_network_architecture
    names = (
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
    )
    leading = (manager, configuration) if "plans_manager" in inspect.signature(build).parameters else names
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net tells where it looks
            network: nn.Module = build(*leading, channels, heads, enable_deep_supervision=False)
    except Exception as error:  # whatever a foreign architecture raises on arguments that are not its own
        if isinstance(error, ImportError) or not _is_known(names[0]):
            raise Unsupported(
                f"The architecture {names[0]!r} of the plans is unknown here; install its package."
            ) from None
        raise ModelError(f"The architecture {names[0]!r} cannot be built from the plans: {error}") from None
    return network


def _is_known(name: object) -> bool:
    try:
        return isinstance(name, str) and pydoc.locate(name) is not None
    except pydoc.ErrorDuringImport:
        return False


def find_trainer(name: str) -> Any:
    """The trainer class `name`, or nnU-Net's own where it is not installed here."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return recursive_find_trainer_class_by_name(name)
        except (RuntimeError, ImportError):  # not found, or another trainer on the way cannot be imported
            return _shipped_trainer(name) or _external_trainer(name) or nnUNetTrainer


def _shipped_trainer(name: str) -> Any:
    """A trainer of nnU-Net's own, importing no other: some need packages that may not be there."""
    folder = Path(importlib.import_module(_TRAINERS).__path__[0])
    for file in sorted(folder.rglob("*.py")):
        if re.search(rf"^class {re.escape(name)}\b", file.read_text(encoding="utf-8"), re.MULTILINE):
            module = ".".join((_TRAINERS, *file.relative_to(folder).with_suffix("").parts))
            with contextlib.suppress(RuntimeError, ImportError):
                return getattr(importlib.import_module(module), name)
    return None


def _external_trainer(name: str) -> Any:
    """A trainer of the folders that ``nnUNet_extTrainer`` names."""
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    for folder in filter(os.path.isdir, os.environ.get(_TRAINER_FOLDERS, "").split(os.pathsep)):
        with contextlib.suppress(RuntimeError, ImportError):
            return recursive_find_python_class(
                folder, name, None, base_folder=folder, cleanup_imports_from_base_folder=True
            )
    return None


def _load_weights(network: nn.Module, weights: Mapping[str, torch.Tensor], checkpoint: Checkpoint) -> None:
    if not all(torch.isfinite(each).all() for each in weights.values() if isinstance(each, torch.Tensor)):
        raise ModelError(f"{checkpoint.place} holds weights that are NaN or infinite: its training diverged.")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise ModelError(
            f"Plans and checkpoint disagree: the weights of {checkpoint.place} do not fit the network that "
            f"trainer {checkpoint.trainer!r} builds from plans.json ({detail}…)."
        ) from None
