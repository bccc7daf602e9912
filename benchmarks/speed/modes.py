"""SpineServe's precision modes: which there are, what serves each, and how a request asks for it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from speed.networks import Shelf
from spine_client import AnalyzeOptions
from spine_export.networks import Precision


@dataclass(frozen=True)
class Mode:
    """A mode: the precision its repository is exported in, the arithmetic and the model of its network."""

    name: str
    precision: Precision
    arithmetic: str
    model: str = "nnunet"


MODES = {mode.name: mode for mode in (Mode("exact", "fp32", "f32"), Mode("default", "fp16", "bf16"))}


def repository(shelf: Shelf, network: str, mode: str) -> Path:
    """The repository that serves `network` in `mode`."""
    return shelf.repository(network, MODES[mode].precision)


def options(mode: str) -> AnalyzeOptions:
    """The options by which a request asks for `mode`."""
    known = {each.name for each in fields(AnalyzeOptions)}
    return AnalyzeOptions(mode=mode) if "mode" in known else AnalyzeOptions()
