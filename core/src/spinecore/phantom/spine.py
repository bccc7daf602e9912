"""Paints what the network must find: canal, sacrum, C2, discs and vertebral bodies.

The order decides who wins a voxel: canal first, then sacrum and C2, then discs, then bodies. In the
midsagittal plane the canal is clear of all others by construction (`canal.fluid_front`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinecore.labels import CANAL, SACRUM, disc_label
from spinecore.phantom.canvas import Canvas, Mask
from spinecore.phantom.column import C2, LEVEL, Vertebra
from spinecore.phantom.grid import F32, Box, smooth_noise
from spinecore.phantom.shapes import Array, BodyShape
from spinecore.phantom.tissues import Tissue

CORD_HALF_AP_MM = np.interp(LEVEL, [8, 10, 12, 20, 22, 25, 27], [3.2, 4, 3.4, 3.4, 3.8, 3.9, 4.2])
ALA_HALF_WIDTH_MM = (12.0, 28.0, 38.0, 48.0, 55.0)
DARK_MM = (0.3, 0.9)
"""Least thickness of the dark line round the fluid: the canal's wall, and with what lies against it and the
chemical shift of the fat outside up to a pixel of a clinical image, as the real series show."""
CORD_HALF_WIDTH_MM = np.interp(LEVEL, [8, 10, 12, 20, 22, 25, 27], [4, 4.8, 4.2, 4.3, 6.2, 6.5, 6])


def paint_spine(rng: np.random.Generator, canvas: Canvas) -> None:
    """Paint all labelled structures."""
    rim = float(rng.uniform(0.5, 1.6)), float(rng.uniform(0.4, 1.2))
    s1 = canvas.column.variant.s1
    paint_canal(rng, canvas)
    for vertebra in canvas.column.vertebrae[: s1 + 1]:
        paint_sacral_segment(rng, canvas, vertebra, rim)
    paint_c2(rng, canvas, canvas.column.vertebrae[C2], rim)
    ligament = float(rng.uniform(0.3, 1.8))
    for vertebra in canvas.column.vertebrae[s1 + 1 : C2]:
        paint_ligaments(canvas, vertebra, ligament)
    for disc in canvas.column.discs[s1:]:
        paint_disc(rng, canvas, disc.index)
    for vertebra in canvas.column.vertebrae[s1 + 1 : C2]:
        paint_body(rng, canvas, vertebra, rim)
    for index in sorted(canvas.column.variant.fused):
        paint_bridge(canvas, index)


def paint_canal(rng: np.random.Generator, canvas: Canvas) -> None:
    """Epidural fat, what narrows the canal, its wall, CSF, cord and roots.

    A stenosis is made of what makes it in patients: disc and bone edges in front, thickened flavum behind.
    Left as epidural fat, as bright in T2 as the CSF beside it, it would be in the truth but not in the image.
    """
    canal = canvas.canal
    centre, half_ap, half_width = (a.astype(np.float32) for a in canal.at(canvas.s))
    within = (canvas.s > canal.ends_mm[0]) & (canvas.s < canal.ends_mm[1])
    across = (canvas.n - centre) / half_ap
    front = canvas.by_level(canvas.column.half_depth_mm)
    sheath = within & (canvas.n > 0.9 * front) & (across < 1.1)
    canvas.paint(sheath & (np.abs(canvas.w) < 1.1 * half_width), Tissue.FAT_EPIDURAL)
    healthy_centre, healthy_half_ap = (a.astype(np.float32) for a in canal.healthy_at(canvas.s))
    healthy = within & _tube(canvas, healthy_centre, healthy_half_ap, half_width)
    fluid = within & _tube(canvas, centre, half_ap, half_width)
    canvas.paint(healthy & ~fluid, Tissue.MUSCLE)  # about the signal of flavum and bulging annulus; no class
    dark = np.float32(rng.uniform(*DARK_MM))
    lined = within & _tube(canvas, centre, half_ap + dark, half_width + dark)
    canvas.paint(lined & ~fluid, Tissue.LIGAMENT)
    inside = within & _tube(canvas, *(a.astype(np.float32) for a in canal.wall_at(canvas.s)))
    canvas.paint(inside, Tissue.DURA)
    canvas.labels[inside] = CANAL
    canvas.paint(fluid, Tissue.CSF)
    paint_cord(rng, canvas, fluid, centre, half_ap)


def _tube(canvas: Canvas, centre: F32, half_ap: F32, half_width: F32) -> Mask:
    """What lies in a tube of the canal's cross-section and of these measures in mm."""
    canal, across = canvas.canal, (canvas.n - centre) / half_ap
    width = half_width * (1 - np.float32(canal.narrowing) * np.clip(across, 0, 1))
    room = np.clip(1 - np.abs(across) ** canal.exponent, 0, None) ** (1 / canal.exponent) * width
    return np.asarray(np.abs(canvas.w) < room)


def paint_cord(rng: np.random.Generator, canvas: Canvas, inside: Mask, centre: F32, half_ap: F32) -> None:
    """The cord down to the conus, roots below it."""
    conus = rng.uniform(8, 10.5)
    full = np.clip((canvas.level - conus) / 1.2, 1e-3, 1)
    offset = rng.uniform(-1.5, 1.5)
    tall = np.minimum(canvas.by_level(CORD_HALF_AP_MM) * rng.uniform(0.85, 1.15), 0.85 * half_ap) * full
    wide = canvas.by_level(CORD_HALF_WIDTH_MM) * rng.uniform(0.85, 1.15) * full
    shift = np.clip(offset, -1, 1) * np.clip(half_ap - tall, 0, None) * 0.8
    square = 1 - ((canvas.n - centre - shift) / tall) ** 2
    cord = inside & (square > 0) & (canvas.w**2 < wide**2 * square)
    canvas.paint(cord, Tissue.CORD)
    low = (
        inside & (canvas.level < conus + 0.8) & (canvas.n > centre - half_ap * rng.uniform(-0.4, 0.6)) & ~cord
    )
    where = np.nonzero(low.any(axis=(0, 2)))[0]
    if where.size:
        part = (slice(None), slice(int(where[0]), int(where[-1]) + 1), slice(None))
        step = abs(float(canvas.grid.y_mm[1] - canvas.grid.y_mm[0]))
        strands = smooth_noise(rng, low[part].shape, (18 / step, 2.4 / step, 2.4 / step))
        canvas.tissue[part][low[part] & (strands > rng.uniform(0.3, 1.2))] = Tissue.ROOTS


def body_box(canvas: Canvas, vertebra: Vertebra, margin_mm: float = 5.0) -> Box | None:
    """The box around a body."""
    shape = vertebra.shape
    scale = 1.12 + abs(shape.taper) + shape.lip
    half = (
        1.3 * shape.half_height + margin_mm,
        scale * shape.half_depth + margin_mm,
        scale * shape.half_width + margin_mm,
    )
    return canvas.grid.box(vertebra.frame, (-half[0], -half[1], -half[2]), half)


def depths(shape: BodyShape, s: Array, n: Array, w: Array) -> tuple[Array, Array]:
    """Depth in mm below a body's side wall and below its nearer endplate, positive inside."""
    side = (1 - shape.radius(s, n, w) / shape.wall(s)) * min(shape.half_depth, 0.8 * shape.half_width)
    return side, np.minimum(shape.top(n, w) - s, s - shape.bottom(n, w))


def paint_body(
    rng: np.random.Generator, canvas: Canvas, vertebra: Vertebra, rim: tuple[float, float]
) -> None:
    """A vertebral body with its rim, basivertebral vein and now and then a lesion."""
    veins = rng.uniform(1.2, 3), rng.uniform(-0.1, 0.5), rng.uniform(3, 9), rng.random() < 0.7
    lesion = rng.random(3), rng.uniform(-8, 8, 3), rng.uniform(3, 8)
    box = body_box(canvas, vertebra)
    if box is None:
        return
    s, n, w = canvas.grid.local(vertebra.frame, box)
    shape = vertebra.shape
    side, end = depths(shape, s, n, w)
    body = (side > 0) & (end > 0)
    canvas.paint_box(box, body, Tissue.MARROW, vertebra.label)
    size = min(shape.half_depth / 17, 1.1)
    if veins[3]:
        flat = (np.abs(s) < veins[0] * size) & (np.abs(w) < veins[2] * size)
        vein = body & flat & (n > veins[1] * shape.half_depth)
        canvas.paint_box(box, vein, Tissue.VEIN_BASIVERTEBRAL, vertebra.label)
    _paint_lesion(canvas, vertebra, box, body, (s, n, w), end, lesion)
    shell = body & ((side < rim[0]) | (end < rim[1]))
    canvas.paint_box(box, shell, Tissue.RIM, vertebra.label)


def _paint_lesion(
    canvas: Canvas, vertebra: Vertebra, box: Box, body: Mask, where: tuple[F32, F32, F32], end: Array,
    lesion: tuple[NDArray[np.float64], NDArray[np.float64], float],
) -> None:  # fmt: skip
    """Modic change under an endplate, or a round lesion (haemangioma)."""
    chance, centre, size = lesion
    s, n, w = where
    if chance[0] < 0.15:
        side = s > 0 if chance[1] < 0.5 else s < 0
        canvas.paint_box(box, body & side & (end < size) & (n > centre[1] - 4), Tissue.MODIC, vertebra.label)
    if chance[2] < 0.08:
        ball = body & ((s - centre[0]) ** 2 + (n - centre[1]) ** 2 + (w - centre[2]) ** 2 < size**2)
        canvas.paint_box(box, ball, Tissue.MODIC, vertebra.label)


def paint_ligaments(canvas: Canvas, vertebra: Vertebra, thickness_mm: float) -> None:
    """Longitudinal ligaments as a dark layer round the body."""
    box = body_box(canvas, vertebra)
    if box is None:
        return
    s, n, w = canvas.grid.local(vertebra.frame, box)
    shape = vertebra.shape
    outside = (shape.radius(s, n, w) - shape.wall(s)) * shape.half_depth
    layer = (outside >= -1) & (outside < thickness_mm) & (np.abs(w) < 0.8 * shape.half_width)
    layer &= (np.abs(s) < shape.half_height + 3) & (canvas.labels[box] == 0)
    canvas.paint_box(box, layer, Tissue.LIGAMENT)


@dataclass(frozen=True)
class DiscSpace:
    """The space between two bodies on a box of the grid, arrays (Z, Y, X) float32.

    `above` and `below` are distances in mm from the lower and to the upper endplate; `share` runs from 0 at
    the lower to 1 at the upper one; `across` and `side` are n and w in units of the bodies' half axes;
    `radius` is 1 on the outline that the bodies' edges span.
    """

    box: Box
    above: Array
    below: Array
    share: Array
    across: Array
    side: Array
    radius: Array


def disc_space(canvas: Canvas, lower: Vertebra, upper: Vertebra) -> DiscSpace | None:
    """Coordinates between two neighbours; None where the grid does not reach."""
    first, second = lower.shape, upper.shape
    reach = 1.35 * max(first.half_depth, second.half_depth) + 3
    aside = 1.3 * max(first.half_width, second.half_width) + 3
    h = first.half_height
    box = canvas.grid.box(lower.frame, (0.3 * h, -reach, -aside), (1.3 * h + 26, reach, aside))
    if box is None:
        return None
    s1, n1, w1 = canvas.grid.local(lower.frame, box)
    s2, n2, w2 = canvas.grid.local(upper.frame, box)
    above, below = s1 - first.top(n1, w1), second.bottom(n2, w2) - s2
    share = np.clip(above / np.maximum(above + below, 1e-3), 0, 1)
    r1 = first.radius(np.full_like(s1, h), n1, w1) / np.float32(1 + first.lip)
    r2 = second.radius(np.full_like(s2, -second.half_height), n2, w2) / np.float32(1 + second.lip)
    across = (1 - share) * n1 / first.half_depth + share * n2 / second.half_depth
    side = (1 - share) * w1 / first.half_width + share * w2 / second.half_width
    return DiscSpace(box, above, below, share, across, side, (1 - share) * r1 + share * r2)


def paint_disc(rng: np.random.Generator, canvas: Canvas, index: int) -> None:
    """The disc above vertebra `index`: everything between the two endplates, out to the annulus."""
    offset, deep, wide, high, power = rng.uniform([-0.1, 0.55, 0.55, 0.7, 2.0], [0.1, 0.8, 0.85, 1.1, 3.5])
    lower, upper = canvas.column.vertebrae[index], canvas.column.vertebrae[index + 1]
    state = canvas.column.discs[index]
    space = disc_space(canvas, lower, upper)
    if space is None:
        return
    hump = np.where(space.across > 0, state.protrusion * np.exp(-((space.side / 0.5) ** 2)), 0)
    disc = (space.above >= 0) & (space.below >= 0) & (space.radius < 1 + state.bulge + hump)
    label = disc_label(upper.label)
    canvas.paint_box(space.box, disc, Tissue.ANNULUS, label)
    thickness = space.above + space.below
    from_middle = np.abs(space.above - space.below)
    inner = np.abs((space.across + offset) / deep) ** power + np.abs(space.side / wide) ** power
    inner = inner + np.abs(from_middle / (np.abs(thickness) + 2.4) / high) ** power
    nucleus = disc & (inner < 1)
    kind = Tissue.NUCLEUS_DEGENERATE if state.degenerate else Tissue.NUCLEUS
    canvas.paint_box(space.box, nucleus, kind, label)
    if state.cleft:
        canvas.paint_box(space.box, nucleus & (inner < 0.5) & (from_middle < 1.4), Tissue.CLEFT, label)


def paint_bridge(canvas: Canvas, index: int) -> None:
    """Bone in place of the fused disc above vertebra `index`; each half belongs to the body next to it."""
    lower, upper = canvas.column.vertebrae[index], canvas.column.vertebrae[index + 1]
    space = disc_space(canvas, lower, upper)
    if space is None:
        return
    bridge = canvas.labels[space.box] == disc_label(upper.label)
    for vertebra, half in ((lower, space.share < 0.5), (upper, space.share >= 0.5)):
        canvas.paint_box(space.box, bridge & half, Tissue.MARROW, vertebra.label)


def paint_sacral_segment(
    rng: np.random.Generator, canvas: Canvas, vertebra: Vertebra, rim: tuple[float, float]
) -> None:
    """One sacral body with its share of the lateral masses and the disc remnant above it."""
    slope, remnant_dark = rng.uniform(0.25, 0.5), rng.random() < 0.5
    k, shape = vertebra.index, vertebra.shape
    s1 = canvas.column.variant.s1
    half_ala = ALA_HALF_WIDTH_MM[min(canvas.column.variant.roles[k], 4)] * canvas.column.scale
    high = 1.4 * shape.half_height + 4, 1.6 * shape.half_depth + 6, half_ala + 3
    box = canvas.grid.box(vertebra.frame, (-high[0], -high[1], -high[2]), high)
    if box is None:
        return
    s, n, w = canvas.grid.local(vertebra.frame, box)
    side, end = depths(shape, s, n, w)
    wing = _ala(shape, s, n, w, half_ala, slope, top=k == s1) & (canvas.labels[box] == 0)
    canvas.paint_box(box, wing, Tissue.SACRUM_MARROW, SACRUM)
    hole = wing & ((np.abs(w) - 1.1 * shape.half_width) ** 2 + (s + shape.half_height) ** 2 < 16) & (k > 1)
    canvas.paint_box(box, hole, Tissue.FAT_EPIDURAL)
    if k < s1:
        _paint_remnant(canvas, vertebra, remnant_dark)
    segment = (side > 0) & (end > 0)
    canvas.paint_box(box, segment, Tissue.SACRUM_MARROW, SACRUM)
    canvas.paint_box(box, segment & ((side < rim[0]) | (end < rim[1])), Tissue.SACRUM_RIM, SACRUM)


def _ala(
    shape: BodyShape, s: F32, n: F32, w: F32, half_ala: float, slope: float, *, top: bool
) -> NDArray[np.bool_]:
    """The lateral mass of a sacral segment."""
    beyond = np.clip(np.abs(w) - 0.8 * shape.half_width, 0, None)
    wing = (np.abs(w) > 0.7 * shape.half_width) & (np.abs(w) < half_ala)
    wing &= (n > -0.5 * shape.half_depth + 0.25 * beyond) & (n < 0.85 * shape.half_depth + 0.25 * beyond)
    ceiling = shape.half_height - 2 - slope * beyond if top else shape.half_height + 1.5
    return np.asarray(wing & (s > -shape.half_height - 1.5) & (s < ceiling))


def _paint_remnant(canvas: Canvas, vertebra: Vertebra, dark: bool) -> None:
    """The thin remnant of the disc above a sacral segment; it belongs to the sacrum."""
    upper = canvas.column.vertebrae[vertebra.index + 1]
    shape = vertebra.shape
    half = (1.4 * shape.half_height + 8, 1.3 * shape.half_depth + 3, 1.3 * shape.half_width + 3)
    box = canvas.grid.box(vertebra.frame, (0.3 * shape.half_height, -half[1], -half[2]), half)
    if box is None:
        return
    s1, n1, l1 = canvas.grid.local(vertebra.frame, box)
    s2, n2, l2 = canvas.grid.local(upper.frame, box)
    between = (s1 >= shape.top(n1, l1)) & (s2 <= upper.shape.bottom(n2, l2))
    inside = shape.radius(np.full_like(s1, shape.half_height), n1, l1) < 1
    remnant = between & inside & (canvas.labels[box] != CANAL)
    canvas.paint_box(box, remnant, Tissue.SACRUM_DISC, SACRUM)
    if dark:
        edge = remnant & (np.abs(n1) > 0.6 * shape.half_depth)
        canvas.paint_box(box, edge, Tissue.SACRUM_RIM, SACRUM)


def paint_c2(rng: np.random.Generator, canvas: Canvas, vertebra: Vertebra, rim: tuple[float, float]) -> None:
    """C2 with its dens, the arches of C1 round it and the ligaments at its tip."""
    scale = canvas.column.scale
    radius, length = rng.uniform(4.5, 6) * scale, rng.uniform(15, 20) * scale
    shape = vertebra.shape
    h = shape.half_height
    high = h + length + 14, 42 * scale, 26 * scale
    box = canvas.grid.box(vertebra.frame, (-1.4 * h - 4, -32 * scale, -high[2]), high)
    if box is None:
        return
    s, n, w = canvas.grid.local(vertebra.frame, box)
    up, lean = s - 0.85 * h, n + 1.0 * scale
    side, end = depths(shape, s, n, w)
    body_depth = np.minimum(side, np.minimum(end, 0.95 * h - s))
    dens_depth = np.where(s > 0, _dens_depth(up, np.hypot(lean, 0.9 * w), radius, length, shape), -1)
    paint_atlas(rng, canvas, box, (up, lean, n, w), radius)
    free = canvas.labels[box] != CANAL
    sheath = free & (up > 0) & (up < length + 2) & (np.hypot(lean, w) < radius + 2)
    canvas.paint_box(box, sheath, Tissue.LIGAMENT)
    c2 = free & ((dens_depth > 0) | (body_depth > 0))
    canvas.paint_box(box, c2, Tissue.C2_MARROW, vertebra.label)
    canvas.paint_box(box, c2 & (np.maximum(dens_depth, body_depth) < rim[0]), Tissue.C2_RIM, vertebra.label)


def _dens_depth(up: Array, from_axis: Array, radius: float, length: float, shape: BodyShape) -> Array:
    """Depth in mm below the dens's surface: a peg that widens into the body and ends in a dome."""
    height = np.clip(up, 0, None)
    thick = radius * (1 - 0.2 * np.clip(up / length, 0, 1) ** 2)
    thick = thick + np.clip(0.85 * shape.half_depth - radius, 0, 4) * np.clip(1 - height / 7, 0, 1)
    dome = np.sqrt(np.clip(1 - (np.clip(up - 0.75 * length, 0, None) / (0.25 * length)) ** 2, 0, 1))
    return np.where(up < length, thick * dome - from_axis, -1)


def paint_atlas(
    rng: np.random.Generator, canvas: Canvas, box: Box, where: tuple[F32, F32, F32, F32], radius: float
) -> None:
    """C1: anterior and posterior arch and lateral masses, bone of the background."""
    up, lean, n, w = where
    scale = canvas.column.scale
    _, _, half_width = (float(v) for v in canvas.canal.at(canvas.column.positions_mm[C2]))
    centre, half_ap, _ = (float(v) for v in canvas.canal.at(canvas.column.positions_mm[C2] + 14 * scale))
    rim = float(rng.uniform(0.6, 1.6))
    middle = 6.5 * scale
    masses = np.minimum(
        6 * scale - np.abs(np.abs(w) - radius - 7), np.minimum(8 - np.abs(n - 1), 8 - np.abs(up - middle))
    )
    canvas.paint_bone(box, masses, rim)
    front = 3.4 * scale - np.hypot(lean + radius + 4.2 * scale, 0.6 * (up - middle))
    canvas.paint_bone(box, np.where(np.abs(w) < 11, front, -1), rim)
    back = 3.6 * scale - np.hypot(n - centre - half_ap - 5, 0.8 * (up - middle))
    canvas.paint_bone(box, np.where(np.abs(w) < half_width + 4, back, -1), rim)
