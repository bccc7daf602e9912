"""Networks that stand beside another for one of its modes: float32, INT8, or the scout of the coarse pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from spine_export.errors import ExportError
from spine_export.nnunet_folder import TrainedNetwork
from spine_server.modes import LEAVES, NETWORK_DESCRIPTION, check_alike, leaf_name
from spinecore.coarse_pass import check_scout
from spinecore.errors import ModelError
from spinecore.network_spec import NetworkSpec

Mode = Literal["exact", "fast", "scout"]


def as_leaf(trained: TrainedNetwork, mode: Mode, *, repository: Path, precision: str) -> TrainedNetwork:
    """`trained`, whose name is that of a network in `repository`, under the leaf's name.

    ExportError where there is no such network, or it does not suit.
    """
    beside = trained.spec.name
    path = repository / beside / "1" / NETWORK_DESCRIPTION
    if not path.is_file():
        raise ExportError(f"{repository} holds no network {beside!r} for a leaf {mode} to stand beside.")
    if mode == "exact" and precision != "fp32":
        raise ExportError("A leaf for the mode exact is made with --precision fp32.")
    leaf, network = replace(trained.spec, name=leaf_name(beside, mode)), NetworkSpec.load(path)
    try:
        if mode == "scout":
            check_scout(leaf, network)
        else:
            check_alike(leaf, network)
    except ModelError as error:
        raise ExportError(str(error)) from None
    return replace(trained, spec=leaf)


def is_leaf(name: str, repository: Path) -> bool:
    """Whether the network `name` stands beside another of `repository` for one of its modes."""
    beside, _, mode = name.rpartition("_")
    return mode in LEAVES and (repository / beside / "1" / NETWORK_DESCRIPTION).is_file()
