"""Paints everything around the spine: organs, vessels, muscle, fat, head, skin and the air outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from spinecore.phantom.canvas import Canvas, Mask
from spinecore.phantom.column import C2, COUNT, LEVEL
from spinecore.phantom.grid import F32, smooth_noise
from spinecore.phantom.tissues import ORGANS, Tissue


def paint_soft_tissue(rng: np.random.Generator, canvas: Canvas) -> None:
    """Paint the body in front of, beside and behind the column."""
    paint_organs(rng, canvas)
    paint_paraspinal(rng, canvas)
    paint_vessels(rng, canvas)
    paint_neck(rng, canvas)
    paint_back(rng, canvas)


def paint_head_and_skin(rng: np.random.Generator, canvas: Canvas) -> None:
    """Paint head, pelvis, subcutaneous fat, skin and air; they lie outermost, so they come after the
    bones."""
    paint_pelvis(rng, canvas)
    paint_head(rng, canvas)
    paint_outside(rng, canvas)


def noise_mm(rng: np.random.Generator, canvas: Canvas, cells_mm: tuple[float, float, float]) -> F32:
    """Smooth noise (Z, Y, X) with its nodes `cells_mm` apart."""
    grid = canvas.grid
    steps = [
        abs(float(np.mean(np.diff(a)))) if len(a) > 1 else 1.0 for a in (grid.z_mm, grid.y_mm, grid.x_mm)
    ]
    return smooth_noise(rng, grid.shape, tuple(c / s for c, s in zip(cells_mm, steps, strict=True)))


def body_front(canvas: Canvas) -> F32:
    """Half depth of the bodies (Z, Y, 1), mm."""
    return canvas.by_level(canvas.column.half_depth_mm)


def paint_organs(rng: np.random.Generator, canvas: Canvas) -> None:
    """Fill space with a few large organs, lung in the chest."""
    size = np.exp(rng.uniform(np.log(8), np.log(45)))
    stretch = rng.uniform(1, 2.5)
    best = np.full(canvas.grid.shape, -np.inf, np.float32)
    choices = [*ORGANS, Tissue.FAT, Tissue.FAT, Tissue.PREVERTEBRAL, Tissue.MUSCLE]
    for _ in range(4):
        cells = (
            stretch * size * rng.uniform(0.7, 1.4),
            size * rng.uniform(0.6, 1.2),
            size * rng.uniform(0.6, 1.2),
        )
        field = noise_mm(rng, canvas, cells) + np.float32(rng.normal(0, 0.4))
        canvas.paint(field > best, choices[int(rng.integers(len(choices)))])
        np.maximum(best, field, out=best)
    if rng.random() < 0.8:
        chest = (
            (canvas.level > 10.5)
            & (canvas.level < 21.5)
            & (canvas.n < -body_front(canvas) - rng.uniform(2, 12))
        )
        canvas.paint(chest & (best > rng.normal(0.8, 0.4)), Tissue.LUNG)


def paint_paraspinal(rng: np.random.Generator, canvas: Canvas) -> None:
    """Psoas and fat beside the bodies, a layer of prevertebral fat in front of them."""
    front = body_front(canvas)
    side = np.minimum(canvas.by_level(canvas.column.half_width_mm), 26 * canvas.column.scale)
    marbling = noise_mm(rng, canvas, (7, 11, 5)) > rng.uniform(0.6, 2.2)
    beside = (
        (np.abs(canvas.w) > side + 1) & (canvas.n > -front * rng.uniform(0.8, 1.3)) & (canvas.n < front + 5)
    )
    canvas.paint(beside, Tissue.MUSCLE)
    canvas.paint(beside & marbling, Tissue.FAT)
    layer = rng.uniform(1, 9) + 3 * np.abs(smooth_noise(rng, (canvas.grid.shape[0], 1, 1), (12, 1, 1)))
    canvas.paint((canvas.n < -front) & (canvas.n > -front - layer), Tissue.PREVERTEBRAL)


def paint_vessels(rng: np.random.Generator, canvas: Canvas) -> None:
    """Aorta on the left and vena cava on the right, from L4 to the upper chest."""
    front = body_front(canvas)
    for vessel, offset, depth in (
        (Tissue.AORTA, rng.uniform(2, 16), rng.uniform(9, 18)),
        (Tissue.VENA_CAVA, -rng.uniform(6, 20), rng.uniform(8, 16)),
    ):
        radius = rng.uniform(7, 11)
        ahead = canvas.n + front + depth + 3 * np.sin(canvas.s / 70 + rng.uniform(0, 6))
        aside = canvas.w - offset - 4 * np.sin(canvas.s / 60 + rng.uniform(0, 6))
        inside = (ahead**2 < radius**2) & (canvas.level < 19) & (canvas.level > 5.5)
        canvas.paint(inside & (aside**2 < radius**2 - ahead**2), vessel)


def paint_neck(rng: np.random.Generator, canvas: Canvas) -> None:
    """Prevertebral muscle and the airway in front of the cervical spine."""
    front, neck = body_front(canvas), canvas.level > 21
    canvas.paint(neck & (canvas.n < -front - 2) & (canvas.n > -front - rng.uniform(4, 9)), Tissue.MUSCLE)
    radius, depth = rng.uniform(5, 9), rng.uniform(12, 22)
    ahead = (canvas.n + front + depth) ** 2
    canvas.paint(neck & (ahead < radius**2) & (canvas.w**2 < radius**2 - ahead), Tissue.AIRWAY)


def paint_back(rng: np.random.Generator, canvas: Canvas) -> None:
    """Muscle with streaks of fat behind the bodies, more fat in the depth; bones are painted over it."""
    front = body_front(canvas)
    threshold = rng.uniform(0.6, 2.2)
    streaks = noise_mm(rng, canvas, (10, 11, 5))
    behind = canvas.n > front
    canvas.paint(behind, Tissue.MUSCLE)
    canvas.paint(behind & (streaks > threshold), Tissue.FAT)
    centre, half_ap, _ = canvas.canal.at(canvas.s)
    deep = canvas.n > centre + half_ap + rng.uniform(2, 8)
    canvas.paint(deep & (streaks > threshold - 0.4), Tissue.FAT)


def paint_pelvis(rng: np.random.Generator, canvas: Canvas) -> None:
    """Iliac wings beside the sacrum and L5, a thin shell around marrow."""
    inner = rng.uniform(50, 58) * canvas.column.scale + 2.0 * np.clip(canvas.level - 3, 0, 5)
    thickness = rng.uniform(10, 18)
    aside = np.abs(canvas.w) - inner
    plate = (
        (aside > 0)
        & (aside < thickness)
        & (canvas.level < 6.2)
        & (canvas.level > 0.5)
        & (np.abs(canvas.n) < 38)
    )
    bare = canvas.labels == 0
    canvas.paint(plate & bare, Tissue.POSTERIOR_MARROW)
    canvas.paint(plate & bare & ((aside < 1.5) | (aside > thickness - 1.5)), Tissue.POSTERIOR_RIM)


def head_distance(canvas: Canvas) -> F32:
    """Roughly how far in mm a voxel lies outside the brain (negative inside), an ellipsoid above C2."""
    scale = 0.5 + 0.5 * canvas.column.scale
    up = (canvas.s - canvas.canal.ends_mm[1] - 62 * scale) / (72 * scale)
    back = (canvas.n + 8 * scale) / (86 * scale)
    flat = np.hypot(up, back)
    return np.asarray((np.hypot(flat, canvas.w / (70 * scale)) - 1) * 74 * scale, np.float32)


def paint_head(rng: np.random.Generator, canvas: Canvas) -> None:
    """Face, skull, brain with cerebrospinal fluid, brainstem and clivus."""
    if canvas.level.max() < C2 - 0.5:
        return
    scale = canvas.column.scale
    up = canvas.s - canvas.canal.ends_mm[1]
    bare = canvas.labels == 0
    texture = noise_mm(rng, canvas, (20, 20, 20))
    face = bare & (up > -55) & (canvas.n < -26 * scale)
    canvas.paint(face & (texture > 0.4), Tissue.POSTERIOR_MARROW)
    canvas.paint(face & (texture < -0.6), Tissue.AIRWAY)
    outside = head_distance(canvas)
    shell = rng.uniform(4, 8)
    canvas.paint(bare & (up > -18) & (outside < shell), Tissue.POSTERIOR_RIM)
    canvas.paint(bare & (up > -18) & (outside < shell - 1.5) & (outside > 1.5), Tissue.POSTERIOR_MARROW)
    brain = bare & (outside < 0) & (up > -14)
    canvas.paint(brain, Tissue.BRAIN)
    canvas.paint(brain & ((texture > 0.8) | (outside > -rng.uniform(1, 5))), Tissue.BRAIN_CSF)
    paint_brainstem(rng, canvas, up, brain)


def paint_brainstem(rng: np.random.Generator, canvas: Canvas, up: F32, brain: Mask) -> None:
    """The brainstem, its cisterns, and the clivus in front of it."""
    scale = canvas.column.scale
    centre, half_ap, half_width = (float(v) for v in canvas.canal.at(np.array(canvas.canal.ends_mm[1])))
    axis = centre - 0.15 * up
    stem = np.hypot(
        (canvas.n - axis) / (0.75 * half_ap + 0.12 * np.clip(up, 0, 40)), canvas.w / (0.9 * half_width)
    )
    low = (up > -6) & (up < 45 * scale) & (canvas.labels == 0)
    clivus = (
        low & (canvas.n < axis - half_ap - 1) & (canvas.n > axis - half_ap - rng.uniform(12, 20) - 0.3 * up)
    )
    canvas.paint(clivus & (np.abs(canvas.w) < 14 + 0.3 * np.clip(up, 0, 40)), Tissue.POSTERIOR_MARROW)
    canvas.paint(low & (stem < rng.uniform(1.3, 1.7)) & (brain | (up < 8)), Tissue.BRAIN_CSF)
    canvas.paint(low & (stem < 1), Tissue.BRAIN)


def paint_outside(rng: np.random.Generator, canvas: Canvas) -> None:
    """Subcutaneous fat, skin and air behind the back, before the belly and beside the trunk."""
    shape = canvas.grid.shape
    sway = smooth_noise(rng, (shape[0], 1, 1), (60, 1, 1)) * 4
    neck = float(np.median(canvas.level)) > 19
    head = head_distance(canvas) - 8 if canvas.level.max() > C2 - 2 else np.float32(1e3)
    fat_behind = rng.uniform(3, 20) if neck else rng.uniform(4, 35)
    muscle_behind = rng.uniform(34, 50) if neck else rng.uniform(42, 62)
    front = canvas.by_level(np.interp(LEVEL, [0, 5, 12, 21, 27], [14, 17, 15, 9, 8]))
    behind = 0.35 * canvas.n + 0.65 * canvas.n_far - (front + muscle_behind + sway)
    _layers(canvas, np.minimum(behind, head), fat_behind)
    before = -canvas.n_far - (canvas.by_level(trunk_depth(rng, neck=neck)) + 2 * sway)
    _layers(canvas, np.minimum(before, head), rng.uniform(3, 10) if neck else rng.uniform(5, 40))
    half_width = rng.uniform(50, 65) if neck else rng.uniform(140, 185)
    width = canvas.by_level(
        np.interp(LEVEL, [0, 20, 22, 27], [165, 165, half_width, half_width]) + rng.normal(0, 8)
    )
    beside = np.abs(canvas.w) + 0.002 * canvas.n_far**2 - width
    _layers(canvas, np.minimum(beside, head), rng.uniform(5, 30))


def trunk_depth(rng: np.random.Generator, *, neck: bool) -> NDArray[np.float64]:
    """(28,) distance in mm from the column to the front of what lies under the skin."""
    belly, chest, throat = rng.uniform(70, 150), rng.uniform(80, 130), rng.uniform(38, 58)
    jaw = rng.uniform(70, 105) if neck else 90.0
    knots = [0, 8, 12, 19, 22, 25, 25.8, C2]
    depths = [belly, belly, chest, 0.75 * chest, throat, throat + 5, jaw, jaw]
    return np.asarray(PchipInterpolator(knots, depths)(np.arange(COUNT)))


def _layers(canvas: Canvas, outside_mm: F32, fat_mm: float) -> None:
    """Fat, skin and air by distance `outside_mm` beyond the muscles; bones keep their place."""
    free: Mask = canvas.labels == 0
    near = outside_mm > 0
    canvas.paint(near & free & (outside_mm < fat_mm), Tissue.FAT_SUBCUTANEOUS)
    canvas.paint(near & free & (outside_mm >= fat_mm), Tissue.SKIN)
    canvas.paint(free & (outside_mm > fat_mm + 2.2), Tissue.AIR)
