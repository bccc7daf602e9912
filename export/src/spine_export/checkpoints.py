"""nnU-Net's checkpoints: which folds there are, and loading them without running what is in them.

A checkpoint is a pickle. torch's weights-only mode reads nnU-Net's own: tensors, plain Python values, and
the numpy scalars that its training log holds (`NUMPY_SCALARS` allows exactly these). Whatever else a custom
trainer pickles is refused, unless the caller says that the file is trusted: then anything in it may run, as
it does in nnU-Net itself, which never uses the weights-only mode.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from spine_export.errors import ExportError
from spine_export.files import sha256
from spinecore.errors import ModelError

FINAL = "checkpoint_final.pth"
ALL = "all"
_FOLD = re.compile(r"fold_(\d+|all)")
_NEEDED = ("network_weights", "trainer_name", "init_args")

_SCALAR: Any = np.float64(0.0).__reduce__()[0]  # numpy's reconstructor of scalars
NUMPY_SCALARS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as numpy 1 writes it
    (_SCALAR, "numpy._core.multiarray.scalar"),  # as numpy 2 does
    np.dtype,
    *{type(np.dtype(code)) for code in ("f8", "f4", "f2", "i8", "i4", "b1")},
]
"""What weights-only mode must know beside torch's own types to read nnU-Net's training log."""


@dataclass(frozen=True)
class Checkpoint:
    """One fold: its place in the results folder, its hash, and what matters of its content."""

    place: str
    sha256: str
    weights: dict[str, torch.Tensor]
    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...]


def find_folds(results: Path, folds: str | Sequence[str] = ALL, *, checkpoint: str = FINAL) -> list[Path]:
    """Checkpoint files of `folds`: ``"all"``, ``"0,1"`` or a list of names.

    ``"all"`` is every ``fold_<N>`` that has the checkpoint and, only where there is none, ``fold_all``, as in
    nnU-Net's predictor. ModelError where a fold is missing.
    """
    there = {path.parent.name: path for path in results.glob(f"fold_*/{checkpoint}")}
    if folds == ALL:
        return _every_fold(there, checkpoint)
    names = folds.split(",") if isinstance(folds, str) else [str(fold) for fold in folds]
    wanted = [name if name.startswith("fold_") else f"fold_{name}" for name in map(str.strip, names)]
    if len(set(wanted)) != len(wanted) or not all(_FOLD.fullmatch(name) for name in wanted):
        raise ExportError(f"--folds takes 'all' or different numbers such as 0,1; got {','.join(names)!r}.")
    for name in wanted:
        if name not in there:
            known = ", ".join(sorted(there)) or "none"
            raise ModelError(
                f"{name}/{checkpoint} is missing from the results folder; folds that have it: {known}."
            )
    return [there[name] for name in wanted]


def _every_fold(there: dict[str, Path], checkpoint: str) -> list[Path]:
    numbered = {int(name[5:]): path for name, path in there.items() if name[5:].isdecimal()}
    found = [numbered[number] for number in sorted(numbered)] or [
        path for name, path in there.items() if name == "fold_all"
    ]
    if not found:
        raise ModelError(f"No fold_<N>/{checkpoint} is there; expected an nnU-Net results folder.")
    return found


def read_checkpoint(path: Path, *, trusted: bool = False) -> Checkpoint:
    """Load one checkpoint; ModelError says what is wrong with it, ExportError that it must be trusted."""
    place = f"{path.parent.name}/{path.name}"
    state = _load(path, place, trusted=trusted)
    missing = [key for key in _NEEDED if not isinstance(state, dict) or key not in state]
    if missing:
        raise ModelError(f"{place} is no nnU-Net checkpoint: it lacks {', '.join(missing)}.")
    configuration = state["init_args"].get("configuration") if isinstance(state["init_args"], dict) else None
    axes = state.get("inference_allowed_mirroring_axes") or ()
    if (
        not isinstance(state["network_weights"], dict)
        or not isinstance(configuration, str)
        or not all(isinstance(axis, (int, np.integer)) for axis in axes)
    ):
        raise ModelError(
            f"{place} is no nnU-Net checkpoint: its weights, configuration or mirroring axes are unreadable."
        )
    return Checkpoint(
        place=place,
        sha256=sha256(path),
        weights=_unprefixed(state["network_weights"]),
        trainer=str(state["trainer_name"]),
        configuration=configuration,
        mirror_axes=tuple(int(axis) for axis in axes),
    )


def _load(path: Path, place: str, *, trusted: bool) -> Any:
    try:
        if trusted:
            return torch.load(path, map_location="cpu", weights_only=False)
        with torch.serialization.safe_globals(NUMPY_SCALARS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if (kind := _refused_type(str(error))) is not None:
            raise ExportError(
                f"{place} holds a pickled {kind}, which weights-only mode refuses; pass --trust-checkpoint "
                "if you trust where it comes from."
            ) from None
        raise ModelError(f"{place} is damaged: it cannot be read as a checkpoint.") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, ImportError, AttributeError):
        raise ModelError(f"{place} is damaged or incomplete: it cannot be read as a checkpoint.") from None


def _refused_type(message: str) -> str | None:
    found = re.search(r"Unsupported (?:global: GLOBAL|class|type):? ([\w.]+)", message)
    return found.group(1) if found else None


def _unprefixed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a compiled or data-parallel network under their plain names."""
    return {key.removeprefix("module.").replace("_orig_mod.", ""): value for key, value in weights.items()}
