"""Smooth outlines of label masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_UPSAMPLING = 4
_EDGE = 2
"""Pixels of background added on each side, so that outlines close at the image's edge."""


def smooth_mask(
    mask: npt.NDArray[np.bool_], spacing_mm: tuple[float, float]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Slightly blurred and finer sampled mask for drawing: x mm (n,), y mm (m,), coverage 0…1 (m, n).

    The line of coverage 0.5 is the outline; it stays within half a pixel of the mask's edge.
    """
    rows, columns = np.nonzero(mask)
    top, left = rows.min() - _EDGE, columns.min() - _EDGE
    part = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    coverage = _blur(np.pad(part.astype(float), _EDGE))
    y, coverage = _finer(coverage)
    x, coverage = _finer(coverage.T)
    return (x + left) * spacing_mm[1], (y + top) * spacing_mm[0], coverage.T


def _blur(coverage: npt.NDArray[Any]) -> npt.NDArray[Any]:
    for axis in (0, 1):
        coverage = (np.roll(coverage, 1, axis) + 2 * coverage + np.roll(coverage, -1, axis)) / 4
    return coverage


def _finer(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Linear interpolation along the first axis."""
    count = len(values)
    at = np.linspace(0, count - 1, (count - 1) * _UPSAMPLING + 1)
    below = np.minimum(at.astype(int), count - 2)
    part = (at - below)[:, None]
    return at, values[below] * (1 - part) + values[below + 1] * part
