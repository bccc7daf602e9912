"""Paints pedicles, laminae, facets, transverse and spinous processes, and the fat and ligaments between them.

All of it is background for the network; it carries bone and fat intensities only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinecore.phantom.canvas import Canvas
from spinecore.phantom.column import C2, COUNT, LEVEL, Column, Vertebra
from spinecore.phantom.grid import F32, Box
from spinecore.phantom.tissues import Tissue

SPINOUS_LENGTH_MM = np.interp(
    LEVEL, [0, 4, 5, 9, 12, 18, 21, 22, 24, 26, 27], [3, 8, 24, 31, 30, 30, 34, 34, 16, 15, 20]
)
SPINOUS_SLANT = np.interp(LEVEL, [0, 5, 9, 12, 16, 20, 22, 27], [0.2, 0.15, 0.25, 0.6, 1.2, 0.9, 0.5, 0.4])


@dataclass(frozen=True)
class ArchStyle:
    """How this patient's vertebral arches look; factors around 1 and lengths in mm, (28,) where per
    vertebra."""

    width: float
    rim_mm: float
    length: NDArray[np.float64]
    slant: NDArray[np.float64]
    drop: float
    spinous_height: NDArray[np.float64]
    aside_mm: NDArray[np.float64]
    fat_mm: float
    interspinous: float


@dataclass(frozen=True)
class Arch:
    """One vertebra's arch: local coordinates (Z, Y, X) float32 mm on `box`, and the canal's walls behind
    the body."""

    vertebra: Vertebra
    box: Box
    s: F32
    n: F32
    w: F32
    canal_mm: float
    back_mm: float
    half_width_mm: float
    size: float


def draw_arch_style(rng: np.random.Generator, column: Column) -> ArchStyle:
    """Draw what is common to all arches of a patient."""
    scale, roles = column.scale, column.variant.roles
    return ArchStyle(
        width=rng.uniform(0.8, 1.2) * scale, rim_mm=rng.uniform(0.6, 1.8),
        length=SPINOUS_LENGTH_MM[roles] * scale * rng.uniform(0.8, 1.2) * rng.normal(1, 0.05, COUNT),
        slant=SPINOUS_SLANT[roles] * rng.uniform(0.7, 1.3), drop=rng.uniform(0.35, 0.6),
        spinous_height=rng.uniform(0.3, 0.46) * rng.normal(1, 0.1, COUNT), aside_mm=rng.normal(0, 0.8, COUNT),
        fat_mm=rng.uniform(2, 10), interspinous=rng.normal(0, 0.6),
    )  # fmt: skip


def paint_arches(rng: np.random.Generator, canvas: Canvas) -> None:
    """Paint the arches of all vertebrae that reach into the grid."""
    style, s1 = draw_arch_style(rng, canvas.column), canvas.column.variant.s1
    arches = [arch for v in canvas.column.vertebrae if (arch := _arch(canvas, v, style)) is not None]
    for arch in arches:
        paint_foramen(canvas, arch)
    for arch in arches:
        if arch.vertebra.index >= s1:
            paint_interspinous(rng, canvas, arch, style)
    for arch in arches:
        if arch.vertebra.index > s1 and arch.vertebra.index < C2:
            paint_pedicles(canvas, arch, style)
        if arch.vertebra.index >= s1:
            paint_lamina(rng, canvas, arch, style)
            paint_spinous(canvas, arch, style)
        else:
            paint_sacral_crest(canvas, arch, style)


def _arch(canvas: Canvas, vertebra: Vertebra, style: ArchStyle) -> Arch | None:
    k, shape = vertebra.index, vertebra.shape
    size = float(np.clip(shape.half_depth / 17, 0.45, 1.1))
    centre, half_ap, half_width = (float(v) for v in canvas.canal.at(canvas.column.positions_mm[k]))
    below = 8 + style.slant[k] * 60 + shape.half_height
    reach = centre + half_ap + 8 + style.length[k]
    low, high = (-min(below, 75), 0.4 * shape.half_depth, -46.0), (shape.half_height + 14, reach, 46.0)
    box = canvas.grid.box(vertebra.frame, low, high)
    if box is None:
        return None
    s, n, w = canvas.grid.local(vertebra.frame, box)
    return Arch(vertebra, box, s, n, w, centre, centre + half_ap, half_width, size)


def paint_foramen(canvas: Canvas, arch: Arch) -> None:
    """Fat beside and behind the canal with the nerve root below the pedicle."""
    shape = arch.vertebra.shape
    h, side = shape.half_height, np.abs(arch.w)
    near = (np.abs(arch.s) < h + 4) & (arch.n > 0.55 * shape.half_depth) & (arch.n < arch.back_mm + 3)
    fat = near & (side < min(shape.half_width, 26) + 4)
    canvas.paint_box(arch.box, fat, Tissue.FAT_EPIDURAL)
    root = fat & ((side - arch.half_width_mm - 6) ** 2 + (arch.s + 0.75 * h) ** 2 < 9)
    canvas.paint_box(arch.box, root, Tissue.ROOT_IN_FORAMEN)


def paint_pedicles(canvas: Canvas, arch: Arch, style: ArchStyle) -> None:
    """Pedicles and transverse processes."""
    h, width, size = arch.vertebra.shape.half_height, style.width, arch.size
    side = np.abs(arch.w)
    pedicle = np.minimum(
        5 * size * width - np.abs(side - arch.half_width_mm - 5.5 * size),
        7 * size * width - np.abs(arch.s - 0.3 * h),
    )
    pedicle = np.minimum(
        pedicle, np.minimum(arch.n - 0.8 * arch.vertebra.shape.half_depth, arch.canal_mm + 3 - arch.n)
    )
    canvas.paint_bone(arch.box, pedicle, style.rim_mm)
    length = np.minimum(side - arch.half_width_mm - 6 * size, 40 * size - side)
    process = np.minimum(length, 4.5 * size * width - np.hypot(arch.s - 0.2 * h, arch.n - arch.canal_mm - 1))
    canvas.paint_bone(arch.box, process, style.rim_mm)


def paint_lamina(rng: np.random.Generator, canvas: Canvas, arch: Arch, style: ArchStyle) -> None:
    """Facet joints, laminae, ligamentum flavum and the fat behind the canal."""
    k, h, size, width = arch.vertebra.index, arch.vertebra.shape.half_height, arch.size, style.width
    side = np.abs(arch.w)
    beside, behind = side - arch.half_width_mm - 6 * size, arch.n - arch.back_mm - 1
    facet = 7.5 * size * width - np.sqrt(beside**2 + ((np.abs(arch.s) - h - 3) / 1.5) ** 2 + behind**2)
    facet = np.where(arch.s < h + 8, facet, -1) if k < C2 else np.where(arch.s < 0, facet, -1)
    canvas.paint_bone(arch.box, facet, style.rim_mm)
    joint = (facet > 0) & (np.abs(beside - 0.3 * behind) < 0.8) & (np.abs(arch.s) > 0.6 * h)
    canvas.paint_box(arch.box, joint, Tissue.ORGAN_F if rng.random() < 0.5 else Tissue.LIGAMENT)
    lamina = 3.2 * size * width - np.abs(arch.n - arch.back_mm - 3.2 * size - 2 + 0.35 * side)
    lamina = np.minimum(
        lamina, np.minimum(arch.half_width_mm + 6 - side, 0.75 * h - np.abs(arch.s + 0.35 * h))
    )
    flavum = (np.abs(arch.n - arch.back_mm - 2 + 0.3 * side) < 1.6) & (side < arch.half_width_mm + 2)
    flavum &= (lamina <= 0) & (np.abs(arch.s) < h + 4)
    canvas.paint_box(arch.box, flavum, Tissue.LIGAMENT)
    bulk = np.clip(0.25 + 1.1 * np.abs((arch.s - 0.15 * h) / h), 0, 1.15)
    fat = (arch.n > arch.back_mm - 1.5) & (arch.n < arch.back_mm + (style.fat_mm * size - 0.8 * side) * bulk)
    canvas.paint_box(arch.box, fat & (np.abs(arch.s) < h + 4) & (size > 0.6), Tissue.FAT_EPIDURAL)
    canvas.paint_bone(arch.box, lamina, style.rim_mm)


def _spinous(arch: Arch, style: ArchStyle) -> tuple[F32, F32, F32, float]:
    """Along the process, across it, sideways (mm), and its half width at the root."""
    k, h = arch.vertebra.index, arch.vertebra.shape.half_height
    along = arch.n - arch.back_mm - 4
    across = arch.s + style.slant[k] * np.clip(along, 0, 60) + style.drop * h
    width = max(arch.size, 0.75) * style.width * 3.0
    return along, across, np.abs(arch.w - style.aside_mm[k]), width


def paint_interspinous(rng: np.random.Generator, canvas: Canvas, arch: Arch, style: ArchStyle) -> None:
    """Ligament and fat between the spinous processes, the supraspinous ligament behind them."""
    h, length = arch.vertebra.shape.half_height, style.length[arch.vertebra.index]
    along, across, side, width = _spinous(arch, style)
    slab = np.abs(across) < h + 6
    between = slab & (along > -1) & (along < length) & (side < width * 0.8)
    streak = np.sin(across * rng.uniform(0.3, 0.9) + along * rng.uniform(-0.4, 0.4)) + style.interspinous > 0
    canvas.paint_box(arch.box, between & streak, Tissue.INTERSPINOUS)
    canvas.paint_box(arch.box, between & ~streak, Tissue.FAT)
    canvas.paint_box(
        arch.box, slab & (side < 4) & (along > length - 1) & (along < length + 2), Tissue.LIGAMENT
    )


def paint_spinous(canvas: Canvas, arch: Arch, style: ArchStyle) -> None:
    """The spinous process, thicker towards its end."""
    k, h = arch.vertebra.index, arch.vertebra.shape.half_height
    along, across, side, width = _spinous(arch, style)
    length = style.length[k]
    bulb = 1 + 0.35 * np.clip((along - 0.55 * length) / (0.45 * length), 0, 1)
    half = 2 * h * style.spinous_height[k] * np.clip(0.55 + along / 18, 0.55, 1)
    depth = np.minimum((width + 0.12 * np.clip(along, 0, 40)) * bulb - side, half - np.abs(across))
    depth = np.minimum(depth, np.minimum(along + 1, length - along))
    canvas.paint_bone(arch.box, depth, style.rim_mm)


def paint_sacral_crest(canvas: Canvas, arch: Arch, style: ArchStyle) -> None:
    """The thin bony roof of the sacral canal."""
    h = arch.vertebra.shape.half_height
    roof = 3.5 * style.width - np.abs(arch.n - arch.back_mm - 4 + 0.1 * np.abs(arch.w))
    roof = np.minimum(roof, np.minimum(h + 1.5 - np.abs(arch.s), arch.half_width_mm + 12 - np.abs(arch.w)))
    canvas.paint_bone(arch.box, roof, style.rim_mm)
