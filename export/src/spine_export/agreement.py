"""How far two label maps agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

COUNTED_FROM_VOXELS = 1000
"""A class enters the mean if the reference has a connected part of it that is larger. Specks do not count,
however many: no report shows them, and two right answers differ in them."""
_CONNECTED = np.ones((3, 3, 3))


def agreement(
    labels: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], names: dict[int, str]
) -> dict[str, Any]:
    """Dice of each class that either map shows, mean of those counted, and the part of equal voxels.

    Label maps are (Z, Y, X). `names` has the classes' names by number, background left out. `counted` are
    those of more than `COUNTED_FROM_VOXELS` connected voxels in the reference; `mean` is None where none is.
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
    largest = {name: _largest_part(reference == number) for number, name in shown.items()}
    counted = [name for name, voxels in largest.items() if voxels > COUNTED_FROM_VOXELS]
    return {
        "dice": dice,
        "counted": counted,
        "mean": float(np.mean([dice[name] for name in counted])) if counted else None,
        "worst": min((dice[name] for name in counted), default=None),
        "equal_voxels": float(np.trace(pairs)) / labels.size,
    }


def _largest_part(inside: np.ndarray[Any, Any]) -> int:
    """Voxels of the largest part of (Z, Y, X) that is connected by faces, edges or corners."""
    parts, count = ndimage.label(inside, structure=_CONNECTED)
    return int(np.bincount(parts.reshape(-1), minlength=count + 1)[1:].max(initial=0))
