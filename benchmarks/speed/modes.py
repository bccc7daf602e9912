"""SpineServe's precision modes: what serves each, and how a request asks for it.

``exact`` is a network exported in float32. ``default`` is one exported in fp16, run in what the engine is
fastest in. ``fast`` has beside that an INT8 leaf and the trained demo network as the scout of its coarse
pass. The demo network itself needs no scout and has no INT8 leaf: all in INT8 it loses rare classes, with
layers given back to float it is no faster. One server each, so that no mode pays for another's networks.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from speed.networks import Shelf
from spine_client import AnalyzeOptions
from spine_export.networks import Precision
from spine_server.modes import FAST, SCOUT, leaf_name

NETWORK, SCOUTING = "nnunet", "demo"


@dataclass(frozen=True)
class Mode:
    """A mode: the precision its repository is exported in, and the arithmetic of its network."""

    name: str
    precision: Precision
    arithmetic: str


MODES = {
    mode.name: mode
    for mode in (Mode("exact", "fp32", "f32"), Mode("default", "fp16", "bf16"), Mode(FAST, "fp16", "bf16"))
}


def repository(shelf: Shelf, network: str, mode: str) -> Path:
    """The repository that serves `network` in `mode`; made on the first call."""
    plain = shelf.repository(network, MODES[mode].precision)
    if mode != FAST:
        return plain
    folder = plain.with_name(FAST)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(plain, folder)
    for leaf, source in _leaves(shelf, network).items():
        shutil.copytree(source / NETWORK, folder / leaf, copy_function=os.link)
    return folder


def served_model(repository: Path, mode: str) -> str:
    """The model that answers most patches in `mode`."""
    leaf = leaf_name(NETWORK, mode)
    return leaf if (repository / leaf).is_dir() else NETWORK


def options(mode: str) -> AnalyzeOptions:
    """The options by which a request asks for `mode`."""
    return AnalyzeOptions(mode=mode)


def _leaves(shelf: Shelf, network: str) -> dict[str, Path]:
    """Leaf's name -> repository that holds its network."""
    if network == SCOUTING:
        return {}
    return {
        leaf_name(NETWORK, FAST): shelf.repository(network, "int8"),
        leaf_name(NETWORK, SCOUT): shelf.repository(SCOUTING, "fp16"),
    }
