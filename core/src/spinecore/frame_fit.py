"""Finding a disc's frame from the label map.

The disc's least spread gives a first normal, the canal behind it the direction of anterior and the
midsagittal plane. Then the mid surface of the disc (halfway between its endplates) is levelled twice, and
the corners of the two bodies give the disc's depth and its centre. See `spinecore.measure` for the
definitions this approximates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinecore.disc_frame import DiscFrame
from spinecore.geometry import Affine
from spinecore.labels import CANAL
from spinecore.reformat import SampleGrid, crop_affine

FloatArray = NDArray[np.float64]
LabelMap = NDArray[np.uint8]

MID_SURFACE_GRID = SampleGrid.spanning((-15, 15), (-28, 28), (-8, 8), step_mm=(0.5, 1.0, 2.0))
CORNER_GRID = SampleGrid.spanning((-15, 15), (-32, 32), (-2, 2), step_mm=(0.5, 0.5, 1.0))
CANAL_REACH_MM = 50.0
CORNER_BAND_MM = (-0.75, 2.0)  # where a body's depth is read: from just below its endplate's edge
MIN_EDGE_MM = 1.5  # bone shorter than this along e_a is no edge of a body
_ROUNDS = 2


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Labels of one disc, of the bone above and below it (None where there is none in view)."""

    disc: int
    upper: int | None
    lower: int | None


@dataclass(frozen=True, eq=False)
class FittedFrame:
    """A disc's frame, origin halfway between the posterior and anterior edge, and its depth in mm."""

    frame: DiscFrame
    depth_mm: float
    canal_found: bool


def soft_mask(
    labels: LabelMap,
    label: int,
    affine: Affine,
    frame: DiscFrame,
    grid: SampleGrid,
    *,
    prolonged: bool = False,
) -> FloatArray:
    """Share (0..1) of one label at the grid's points, linear between voxel centres; axes (s, a, l).

    Beyond the volume there is nothing, or, if `prolonged`, its outermost voxels go on, so that half a voxel
    at its border is not lost.
    """
    window = grid.window(labels.shape, affine, frame)
    outside = None if prolonged else 0.0
    sampled = grid.sample(labels[window] == label, crop_affine(affine, window), frame, outside=outside)
    return sampled.astype(np.float64)


def fit_frame(labels: LabelMap, affine: Affine, names: Neighbours, *, side_cut: bool = False) -> FittedFrame:
    """Frame and depth of disc `names.disc` in a label map (Z, Y, X).

    side_cut: the disc is cut by the side of the field of view, so its own middle says nothing about the
    midsagittal plane: the canal alone decides, with the image's left for left.
    """
    points = _points_of(labels, names.disc, affine)
    frame, canal_found = _first_frame(labels, affine, points, side_cut)
    for _ in range(_ROUNDS):
        frame = _levelled(soft_mask(labels, names.disc, affine, frame, MID_SURFACE_GRID), frame)
    back, front = _depth(labels, affine, names, frame)
    return FittedFrame(frame.moved((0.0, (back + front) / 2, 0.0)), front - back, canal_found)


def _points_of(labels: LabelMap, label: int, affine: Affine) -> FloatArray:
    index_xyz = np.argwhere(labels == label)[:, ::-1]
    return np.asarray(index_xyz @ affine[:3, :3].T + affine[:3, 3])


def _first_frame(
    labels: LabelMap, affine: Affine, points: FloatArray, side_cut: bool
) -> tuple[DiscFrame, bool]:
    """Frame from the disc's spread and the canal's place behind it, and whether there is a canal."""
    centre = points.mean(axis=0)
    cranial = _least_spread(points)
    canal = _canal_centre(labels, affine, centre, cranial)
    if canal is None:
        return DiscFrame.from_axes(centre, cranial=cranial, anterior=(0, -1, 0)), False
    if not side_cut:
        return DiscFrame.from_axes(centre, cranial=cranial, anterior=centre - canal), True
    frame = DiscFrame.from_axes(centre, cranial=cranial, anterior=np.cross((1.0, 0.0, 0.0), cranial))
    return frame.moved((0.0, 0.0, float(frame.from_lps(canal)[2]))), True


def _least_spread(points: FloatArray) -> FloatArray:
    """Unit vector (3,) of the least spread of `points`, turned to the head."""
    if len(points) < 4:
        return np.array([0.0, 0.0, 1.0])
    _, axes = np.linalg.eigh(np.cov((points - points.mean(axis=0)).T))
    normal = axes[:, 0]
    return np.asarray(normal * (1.0 if normal[2] >= 0 else -1.0))


def _canal_centre(
    labels: LabelMap, affine: Affine, centre: FloatArray, cranial: FloatArray
) -> FloatArray | None:
    """Mean (3,) of the canal voxels beside the disc's plane, the slab widened until it holds some."""
    near = DiscFrame.from_axes(centre, cranial=cranial, anterior=(0, -1, 0))
    grid = SampleGrid.spanning((-12, 12), (-CANAL_REACH_MM, CANAL_REACH_MM), (-25, 25), step_mm=(2, 1.5, 1.5))
    canal = soft_mask(labels, CANAL, affine, near, grid)
    s, a, left = (grid.coordinates(axis) for axis in range(3))
    for slab in (4.0, 8.0, 12.0):
        weight = canal[np.abs(s) <= slab].sum(axis=0)
        if weight.sum() > 20:
            place = (
                0.0,
                float((weight.sum(1) @ a) / weight.sum()),
                float((weight.sum(0) @ left) / weight.sum()),
            )
            return near.to_lps(place)
    return None


def _levelled(disc: FloatArray, frame: DiscFrame) -> DiscFrame:
    """`frame` turned and moved along s so that the disc's mid surface is level in it."""
    s, a, left = (MID_SURFACE_GRID.coordinates(axis) for axis in range(3))
    thickness = disc.sum(axis=0)
    filled = (
        thickness > 0.4 * np.median(thickness[thickness > 0.5]) if (thickness > 0.5).any() else thickness > 1
    )
    if filled.sum() < 12:
        return frame
    middle = np.einsum("s,sal->al", s, disc)[filled] / thickness[filled]
    columns = np.stack(
        [g[filled] for g in (np.ones_like(thickness), *np.meshgrid(a, left, indexing="ij"))], axis=1
    )
    rise, along, aside = _robust_plane(columns, middle)
    turned = DiscFrame.from_axes(
        frame.origin_mm,
        cranial=frame.axes @ (1.0, -along, -aside),
        anterior=frame.axes @ (along, 1.0, 0.0),
    )
    return turned.moved((rise, 0.0, 0.0))


def _robust_plane(columns: FloatArray, heights: FloatArray) -> FloatArray:
    """Least-squares coefficients (3,), refitted once without the worst tenth of the points."""
    fit = np.linalg.lstsq(columns, heights, rcond=None)[0]
    residual = np.abs(heights - columns @ fit)
    keep = residual <= np.quantile(residual, 0.9)
    return np.asarray(np.linalg.lstsq(columns[keep], heights[keep], rcond=None)[0])


def _depth(labels: LabelMap, affine: Affine, names: Neighbours, frame: DiscFrame) -> tuple[float, float]:
    """Posterior and anterior end along e_a in mm: mean of the facing body edges, of the disc without them."""
    disc = soft_mask(labels, names.disc, affine, frame, CORNER_GRID).mean(axis=2)
    spans = []
    for label, side in ((names.upper, 1.0), (names.lower, -1.0)):
        if label is not None:
            bone = soft_mask(labels, label, affine, frame, CORNER_GRID).mean(axis=2)
            spans.append(_edge_span(bone, disc, side))
    found = [span for span in spans if span is not None]
    if not found:
        own = _span(disc.max(axis=0))
        found = [own] if own is not None else [(-10.0, 10.0)]
    return float(np.mean([f[0] for f in found])), float(np.mean([f[1] for f in found]))


def _edge_span(bone: FloatArray, disc: FloatArray, side: float) -> tuple[float, float] | None:
    """Span along a of the body on one side (+1 above) of the disc, read next to its endplate's edge."""
    s, a = CORNER_GRID.coordinates(0), CORNER_GRID.coordinates(1)
    thickness = disc.sum(axis=0) * 0.5
    inner = thickness > 0.5
    if inner.sum() < 6:
        return None
    surface = (s @ disc / np.maximum(disc.sum(axis=0), 1e-9))[inner] + side * thickness[inner] / 2
    edge = np.polyval(np.polyfit(a[inner], surface, 1), a)
    beyond = (s[:, None] - edge[None, :]) * side
    band = (beyond >= CORNER_BAND_MM[0]) & (beyond <= CORNER_BAND_MM[1])
    return _span(np.where(band, bone, 0.0).max(axis=0))


def _span(profile: FloatArray) -> tuple[float, float] | None:
    """Outermost crossings of 0.5 of `profile` on the corner grid's a axis, specks left out.

    In between there may be gaps: a hollow endplate lets the disc through the band where depth is read.
    """
    a = CORNER_GRID.coordinates(1)
    inside = np.flatnonzero(profile >= 0.5)
    runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1)
    runs = [run for run in runs if len(run) * CORNER_GRID.step_mm[1] >= MIN_EDGE_MM]
    if not runs:
        return None
    return _crossing(a, profile, runs[0][0], -1), _crossing(a, profile, runs[-1][-1], 1)


def _crossing(a: FloatArray, profile: FloatArray, index: int, step: int) -> float:
    """Where `profile` falls through 0.5 beyond `index` in direction `step`."""
    beyond = index + step
    if not 0 <= beyond < len(a):
        return float(a[index])
    share = (profile[index] - 0.5) / (profile[index] - profile[beyond])
    return float(a[index] + share * (a[beyond] - a[index]))
