"""The column's course: a smooth curve through the bodies and discs, and arc length along it.

Bodies, discs, sacrum and C2 are strung along one curve. Arc length, in mm and growing towards the head,
puts them in order whatever the patient's lordosis, kyphosis or scoliosis and however the volume is turned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_smoothing_spline
from scipy.spatial import cKDTree

from spinecore.geometry import Points
from spinecore.workers import thread_count

FloatArray = NDArray[np.float64]

BIN_MM = 4.0
STEP_MM = 1.0
OVERHANG_MM = 40.0
STIFFNESS = 4000.0  # bends of the column shorter than about 80 mm are smoothed away
_FIT_POINTS = 20_000
_ROUNDS = 3
_MIN_BINS = 5  # a smoothing spline needs as many


@dataclass(frozen=True, eq=False)
class Column:
    """A curve sampled every millimetre or so: points (M, 3) LPS mm, arc_mm (M,), unit tangents (M, 3)."""

    points: Points
    arc_mm: FloatArray
    tangents: Points

    def project(self, points: Points) -> FloatArray:
        """Arc length in mm (N,) of the curve's place next to each of `points` (N, 3) LPS mm."""
        _, nearest = cKDTree(self.points).query(points, workers=thread_count())
        along = np.einsum("ij,ij->i", points - self.points[nearest], self.tangents[nearest])
        return np.asarray(self.arc_mm[nearest] + along)

    def tangent_at(self, arc_mm: float) -> FloatArray:
        """Unit vector (3,) towards the head at `arc_mm`."""
        return np.asarray(self.tangents[int(np.argmin(np.abs(self.arc_mm - arc_mm)))])

    def point_at(self, arc_mm: float) -> FloatArray:
        """The curve's point (3,) LPS mm at `arc_mm`."""
        return np.array([np.interp(arc_mm, self.arc_mm, self.points[:, k]) for k in range(3)])


def fit_column(points: Points) -> Column:
    """Curve through the voxel centres `points` (N, 3) LPS mm of bodies, discs, sacrum and C2; N >= 1.

    Starts from the patient's long axis and follows the bend of the column in a few rounds: slabs across
    the curve so far, their centroids, a smoothing spline through these.
    """
    sample = points[:: max(len(points) // _FIT_POINTS, 1)].astype(np.float64)
    along = sample[:, 2].copy()
    column = _curve_through(*_slab_centroids(sample, along))
    for _ in range(_ROUNDS - 1):
        column = _curve_through(*_slab_centroids(sample, column.project(sample)))
    return column


def _slab_centroids(points: Points, along: FloatArray) -> tuple[FloatArray, Points, FloatArray]:
    """Of slabs `BIN_MM` thick: mean position along (K,), centroid (K, 3) and share of points (K,)."""
    slab = ((along - along.min()) // BIN_MM).astype(np.intp)
    counts = np.bincount(slab)
    filled = counts > 0
    sums = [np.bincount(slab, weights=w)[filled] / counts[filled] for w in (along, *points.T)]
    return sums[0], np.stack(sums[1:], axis=1), counts[filled] / counts.max()


def _curve_through(along: FloatArray, centroids: Points, weight: FloatArray) -> Column:
    """Smooth curve through slab centroids, drawn out straight by `OVERHANG_MM` at both ends."""
    t = np.arange(along[0] - OVERHANG_MM, along[-1] + OVERHANG_MM, STEP_MM)
    if len(along) < _MIN_BINS:
        points = _straight_line(along, centroids)(t)
    else:
        fit = make_smoothing_spline(along, centroids, w=weight, lam=STIFFNESS)
        inside = np.clip(t, along[0], along[-1])
        points = fit(inside) + (t - inside)[:, None] * fit(inside, nu=1)
    return _sampled(points)


def _straight_line(along: FloatArray, centroids: Points) -> Callable[[FloatArray], Points]:
    """The line from the first slab's centroid to the last one's, upright where there is only one slab."""
    rise = along[-1] - along[0]
    slope = (centroids[-1] - centroids[0]) / rise if rise > 0 else np.array([0.0, 0.0, 1.0])
    return lambda t: np.asarray(centroids.mean(axis=0) + (t - along.mean())[:, None] * slope)


def _sampled(points: Points) -> Column:
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    return Column(points, np.concatenate([[0.0], np.cumsum(steps)]), tangents)
