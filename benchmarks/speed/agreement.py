"""How far two label maps agree."""

from __future__ import annotations

from typing import Any

import numpy as np

COUNTED_FROM_VOXELS = 1000
"""As the export's gate counts: a smaller class in the reference does not enter the mean."""


def agreement(
    labels: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], names: dict[int, str]
) -> dict[str, Any]:
    """Dice of each class that either map shows, mean of those counted, and the part of equal voxels.

    `names` has the classes' names by number, background left out. `counted` are those above
    `COUNTED_FROM_VOXELS` voxels in the reference; `mean` is None where none is.
    """
    if labels.shape != reference.shape:
        raise ValueError(f"labels of {labels.shape} cannot be compared with a reference of {reference.shape}")
    size = max(names) + 1
    pairs = np.bincount(
        np.minimum(reference, size - 1).astype(np.intp).reshape(-1) * size
        + np.minimum(labels, size - 1).reshape(-1),
        minlength=size * size,
    ).reshape(size, size)
    theirs, ours = pairs.sum(1), pairs.sum(0)
    shown = {number: name for number, name in names.items() if theirs[number] + ours[number]}
    dice = {name: 2.0 * int(pairs[n, n]) / int(theirs[n] + ours[n]) for n, name in shown.items()}
    counted = [name for number, name in shown.items() if theirs[number] > COUNTED_FROM_VOXELS]
    return {
        "dice": dice,
        "counted": counted,
        "mean": float(np.mean([dice[name] for name in counted])) if counted else None,
        "worst": min((dice[name] for name in counted), default=None),
        "equal_voxels": float(np.trace(pairs)) / labels.size,
    }
