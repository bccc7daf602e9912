"""What keeps two vertebral bodies apart: the discs, and waists where a disc was not seen.

Along the column the disc class comes in bursts. Each burst that is wide enough to be a disc is one disc; its
mid plane divides the bone above from the bone below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from spinecore.column import Column
from spinecore.geometry import Points

FloatArray = NDArray[np.float64]
Members = NDArray[np.intp]

PROFILE_STEP_MM = 0.5
PROFILE_BLUR_MM = 1.0
VALLEY_SHARE = 0.5  # between two discs the profile falls below this share of the lower one
SAME_DISC_SHARE = 0.45  # of the local pitch: two bursts closer than this are one disc
ROOMY_PITCH = 1.25  # the pitch is at most about this many times the root of a disc's footprint
MIN_AREA_SHARE = 0.3  # of the neighbours' median: a burst with a smaller footprint is not a disc
WAIST_SHARE = 0.8  # of the cross-section on either side
LONG_SHARE = 1.6  # of the local pitch: a stretch this long holds more than one vertebra
MIN_NORMAL_COSINE = 0.87  # a disc stands across the column within 30°
_NEIGHBOURS = 4


@dataclass(frozen=True, eq=False)
class Cloud:
    """Voxels as points: (N, 3) LPS mm, `arc_mm` (N,) along the column, volume of one voxel in mm³."""

    points: Points
    arc_mm: FloatArray
    voxel_mm3: float


@dataclass(frozen=True, eq=False)
class Separator:
    """A plane across the column (`point`, unit `normal` towards the head) at `arc_mm`.

    members: the disc's voxels as indices into the cloud; empty at a waist without a disc.
    area_mm2: the disc's footprint, 0 without a disc.
    """

    arc_mm: float
    point: FloatArray
    normal: FloatArray
    members: Members
    area_mm2: float

    @property
    def is_disc(self) -> bool:
        return len(self.members) > 0

    def height_of(self, points: Points) -> FloatArray:
        """Signed distance in mm (N,) of `points` from the plane, positive towards the head."""
        return np.asarray((points - self.point) @ self.normal)


def find_discs(cloud: Cloud, discs: Members, column: Column) -> list[Separator]:
    """Separators of all discs from the feet upward; `discs` are the indices of the disc voxels."""
    groups = _bursts(cloud, discs)
    found = sorted((disc_separator(cloud, g, column) for g in groups), key=lambda s: s.arc_mm)
    return _drop_slivers(_merge_fragments(cloud, found, column))


def disc_separator(cloud: Cloud, members: Members, column: Column) -> Separator:
    """The mid plane of one disc: across its direction of least spread, if that is near the column's."""
    points = cloud.points[members]
    centre = points.mean(axis=0)
    arc = float(np.median(cloud.arc_mm[members]))
    spread, axes = np.linalg.eigh(np.cov((points - centre).T) if len(points) > 3 else np.eye(3))
    tangent = column.tangent_at(arc)
    normal = axes[:, 0] * np.sign(axes[:, 0] @ tangent)
    if normal @ tangent < MIN_NORMAL_COSINE:
        normal = tangent
    thickness = max(float(np.sqrt(12 * max(spread[0], 0.0))), 1.0)
    return Separator(arc, centre, normal, members, len(members) * cloud.voxel_mm3 / thickness)


def expected_pitch_mm(separators: list[Separator], interval: int) -> float:
    """Usual distance of neighbouring discs around `interval` (interval i lies below separator i).

    The median over the nearest intervals, its own left out; with one disc alone, the root of its footprint
    (bodies and discs together are about as tall as they are deep and wide).
    """
    arcs = np.array([s.arc_mm for s in separators])
    gaps = np.diff(arcs)  # gaps[k] is interval k + 1
    others = [k for k in range(len(gaps)) if k + 1 != interval]
    nearest = sorted(others, key=lambda k: abs(k + 1 - interval))[:_NEIGHBOURS]
    if nearest:
        return float(np.median(gaps[nearest]))
    areas = [s.area_mm2 for s in separators if s.is_disc]
    return float(np.sqrt(np.median(areas))) if areas else 30.0


def waists(cloud: Cloud, members: Members, column: Column, *, pieces: int) -> list[Separator]:
    """Planes that cut bone `members` into `pieces` at its narrowest places; empty unless all are clear.

    A waist is clear where the cross-section falls below `WAIST_SHARE` of what it is on both sides.
    """
    arcs, area = _profile(cloud, members)
    length = (arcs[-1] - arcs[0]) / pieces
    cuts = []
    for k in range(1, pieces):
        middle = arcs[0] + k * length
        near = np.flatnonzero(np.abs(arcs - middle) <= 0.3 * length)
        if not len(near):
            return []
        low = near[np.argmin(area[near])]
        sides = (area[np.abs(arcs - arcs[low] + d) <= 0.5 * length].max() for d in (-length / 2, length / 2))
        if area[low] > WAIST_SHARE * min(sides):
            return []
        cuts.append(_waist_at(float(arcs[low]), column))
    return cuts


def _waist_at(arc_mm: float, column: Column) -> Separator:
    empty = np.empty(0, dtype=np.intp)
    return Separator(arc_mm, column.point_at(arc_mm), column.tangent_at(arc_mm), empty, 0.0)


def _profile(cloud: Cloud, members: Members) -> tuple[FloatArray, FloatArray]:
    """Cross-section in mm² over arc length: positions (K,) and smoothed values (K,)."""
    arc = cloud.arc_mm[members]
    first = float(arc.min()) - 4 * PROFILE_STEP_MM
    bins = ((arc - first) / PROFILE_STEP_MM).astype(np.intp)
    volume = np.bincount(bins, minlength=int(bins.max()) + 5) * cloud.voxel_mm3
    area = gaussian_filter1d(volume / PROFILE_STEP_MM, PROFILE_BLUR_MM / PROFILE_STEP_MM, mode="constant")
    return first + (np.arange(len(area)) + 0.5) * PROFILE_STEP_MM, area


def _bursts(cloud: Cloud, discs: Members) -> list[Members]:
    """The disc voxels cut at the deep valleys of their profile along the column."""
    if not len(discs):
        return []
    arcs, area = _profile(cloud, discs)
    peaks, _ = find_peaks(area, height=0.05 * area.max())
    cuts = []
    last = None
    for peak in peaks:
        if last is not None:
            valley = last + int(np.argmin(area[last : peak + 1]))
            if area[valley] >= VALLEY_SHARE * min(area[last], area[peak]):
                last = peak if area[peak] > area[last] else last
                continue
            cuts.append(arcs[valley])
        last = peak
    group = np.searchsorted(np.array(cuts), cloud.arc_mm[discs])
    return [discs[group == g] for g in range(len(cuts) + 1) if (group == g).any()]


def _merge_fragments(cloud: Cloud, found: list[Separator], column: Column) -> list[Separator]:
    """Join neighbours that lie too close to be two discs."""
    merged = list(found)
    k = 0
    while k + 1 < len(merged):
        size = np.sqrt(max(merged[k].area_mm2, merged[k + 1].area_mm2))
        pitch = min(expected_pitch_mm(merged, k + 1), ROOMY_PITCH * float(size))
        if merged[k + 1].arc_mm - merged[k].arc_mm >= SAME_DISC_SHARE * pitch:
            k += 1
            continue
        both = np.concatenate([merged[k].members, merged[k + 1].members])
        merged[k : k + 2] = [disc_separator(cloud, both, column)]
    return merged


def _drop_slivers(found: list[Separator]) -> list[Separator]:
    """Leave out bursts whose footprint is far below their neighbours': specks inside bone, not discs."""
    kept = []
    for k, separator in enumerate(found):
        near = [found[j].area_mm2 for j in range(max(k - 2, 0), min(k + 3, len(found))) if j != k]
        if not near or separator.area_mm2 >= MIN_AREA_SHARE * float(np.median(near)):
            kept.append(separator)
    return kept
