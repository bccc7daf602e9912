"""What the field of view cuts off, and how far it goes on beyond the column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinecore.geometry import Affine, lps_to_index
from spinecore.separators import Members

FloatArray = NDArray[np.float64]

MIN_CUT_VOXELS = 4  # so many voxels on a face of the volume make a cut
_STEP_MM = 1.0
_FARTHEST_MM = 200.0
_GAP_STEP_MM = 3.0
_GAP_REACH_MM = 60.0


@dataclass(frozen=True)
class Cut:
    """Whether a structure reaches a face of the volume.

    along: a face above, below, in front or behind, so that part of its midsagittal section may be missing.
    side: a face to the right or left, which thin slabs of sagittal slices often do.
    """

    along: bool
    side: bool


def cut_by_view(voxels: Members, shape: tuple[int, ...], affine: Affine) -> Cut:
    """Which kind of face of the (Z, Y, X) volume the voxels (flat indices) reach."""
    along = side = False
    for axis, index in enumerate(np.unravel_index(voxels, shape)):
        direction = np.abs(affine[:3, 2 - axis])
        ends = (index == 0, index == shape[axis] - 1)
        touched = any(int(end.sum()) >= MIN_CUT_VOXELS for end in ends)
        sideways = int(np.argmax(direction)) == 0
        along, side = along or (touched and not sideways), side or (touched and sideways)
    return Cut(along, side)


def in_view(points_lps: FloatArray, shape: tuple[int, ...], affine: Affine) -> bool:
    """Whether all points (..., 3) LPS mm lie within the volume's voxels."""
    index_zyx = lps_to_index(affine, points_lps)[..., ::-1]
    return bool(((index_zyx >= -0.5) & (index_zyx <= np.array(shape) - 0.5)).all())


def view_beyond_mm(point: FloatArray, direction: FloatArray, shape: tuple[int, ...], affine: Affine) -> float:
    """How far one can go from `point` along unit `direction` (both (3,) LPS) without leaving the volume."""
    steps = np.arange(0.0, _FARTHEST_MM, _STEP_MM)
    index_zyx = lps_to_index(affine, point + steps[:, None] * direction)[:, ::-1]
    outside = ((index_zyx < -0.5) | (index_zyx > np.array(shape) - 0.5)).any(axis=1)
    return float(steps[int(np.argmax(outside))]) if outside.any() else _FARTHEST_MM


def unbroken_mm(positions: FloatArray) -> float:
    """How far `positions` along a line (N,) go on from 0 without a gap, in mm (at most 60)."""
    near = positions[(positions >= 0) & (positions < _GAP_REACH_MM)]
    filled = np.bincount((near // _GAP_STEP_MM).astype(np.intp))
    gaps = np.flatnonzero(filled == 0)
    return _GAP_STEP_MM * float(gaps[0] if len(gaps) else len(filled))
