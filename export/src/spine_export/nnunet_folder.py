"""Reads an nnU-Net results folder: the network with its weights, and what the server must know about it.

Expected inside, as nnU-Net writes them: ``plans.json``, ``dataset.json``, ``fold_<N>/checkpoint_final.pth``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from spine_export.architecture import build_network
from spine_export.checkpoints import ALL, FINAL, Checkpoint, find_folds, read_checkpoint
from spine_export.describe import describe
from spine_export.errors import ExportError
from spine_export.files import read_json, sha256
from spine_export.roles import recognised_roles, roles_from_table
from spinecore.errors import ModelError
from spinecore.network_spec import NetworkSpec

PLANS, DATASET = "plans.json", "dataset.json"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode (deep supervision off) and its description, `sha256` still empty.

    `plans`, `dataset_json` and `checkpoints` (without weights in common use) are what it was made from.
    """

    network: nn.Module
    spec: NetworkSpec
    plans: dict[str, Any] = field(default_factory=dict)
    dataset_json: dict[str, Any] = field(default_factory=dict)
    checkpoints: tuple[Checkpoint, ...] = ()


def read_results_folder(
    folder: Path,
    *,
    folds: str | Sequence[str] = ALL,
    checkpoint: str = FINAL,
    trusted: bool = False,
    name: str = "nnunet",
    version: str = "1",
    trained_on: str = "",
    mirror: bool = False,
    step_size: float = 0.5,
    labels: Path | None = None,
) -> TrainedNetwork:
    """Network and description of one or several folds of a results folder.

    `mirror` makes mirroring the default of requests; `labels` is a table of roles (see `roles`). Raises
    ModelError for missing, damaged or contradictory files and ExportError for what is not supported.
    """
    if not folder.is_dir():
        raise ModelError(f"The results folder {folder} does not exist.")
    plans, dataset_json = read_json(folder / PLANS), read_json(folder / DATASET)
    files = find_folds(folder, folds, checkpoint=checkpoint)
    checkpoints = tuple(read_checkpoint(file, trusted=trusted) for file in files)
    spec = describe(
        plans,
        dataset_json,
        checkpoints[0].configuration,
        name=name,
        version=version,
        trained_on=trained_on,
        mirror_axes=checkpoints[0].mirror_axes,
    )
    if mirror and not spec.mirror_axes:
        raise ExportError("--mirror: the network was trained without mirroring, so it must not be mirrored.")
    roles = recognised_roles(spec.labels) if labels is None else roles_from_table(labels, spec.labels)
    sources = {each: sha256(folder / each) for each in (PLANS, DATASET)}
    sources |= {each.place: each.sha256 for each in checkpoints}
    spec = replace(spec, mirroring=mirror, step_size=step_size, roles=roles, sources=sources)
    network = build_network(plans, dataset_json, checkpoints)
    return TrainedNetwork(network, spec, plans, dataset_json, checkpoints)
