"""Draws the vertebrae of one patient: sizes, poses, shapes and the state of the discs.

Vertebrae are counted from below: 0…4 are S5…S1, 5…9 L5…L1, 10…21 T12…T1, 22…26 C7…C3, 27 is C2; `variants`
has the exceptions. Disc k lies between vertebra k and k + 1. Sizes and angles are those of the prototype
whose phantoms carried over to real MRI.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinecore.phantom.config import PhantomConfig
from spinecore.phantom.curve import ColumnCurve, curve_from_angles
from spinecore.phantom.shapes import BodyShape, Frame
from spinecore.phantom.variants import Variant

F64 = NDArray[np.float64]

COUNT: Final = 28
S1, L5, L1, T12, T1, C7, C3, C2 = 4, 5, 9, 10, 21, 22, 26, 27
LEVEL: Final = np.arange(COUNT)

# Rows: S5…S1, L5…L1, T12…T1, C7…C2. `DISC_MM` is the disc above each, so it ends below C2.
HEIGHT_MM: Final = [
    13, 15, 18, 22, 28,
    27, 27.5, 27.5, 27, 26,
    25, 23.5, 22.5, 22, 21.5, 21, 20.5, 20, 19, 18.5, 18, 17,
    15, 14, 14, 14, 14.5, 19,
]  # fmt: skip
DEPTH_MM: Final = [
    8, 11, 14, 19, 28,
    35, 35, 34.5, 34, 33,
    31, 30, 29, 28, 27, 26, 25, 23, 21, 19, 18, 17,
    17, 16.5, 16, 16, 15.5, 16,
]  # fmt: skip
WIDTH_MM: Final = [
    20, 25, 30, 38, 48,
    50, 48, 46, 44, 43,
    41, 38, 35, 33, 31, 30, 29, 28, 27, 27, 28, 29,
    26, 23, 21, 20, 19.5, 18,
]  # fmt: skip
DISC_MM: Final = [
    1.0, 1.2, 1.5, 2.0, 9.5,
    10, 9.5, 8.7, 7.8, 6.5,
    5.5, 4.6, 4.2, 3.9, 3.8, 3.8, 3.4, 3.4, 3.4, 3.4, 3.8, 4.5,
    4.8, 5, 4.6, 4.6, 4.6,
]  # fmt: skip
SACRUM_TAPER: Final = [0.0, 0.08, 0.12, 0.16, 0.17]
ANGLE_KNOTS: Final = [0, 2, 4, 5, 7, 9, 12, 16, 20, 22, 24, 27]
WEDGE_KNOTS: Final = ([0, 4, 5, 6, 8, 12, 20, 27], [0, -0.02, -0.1, -0.04, 0, 0.03, 0, 0])
MIN_EDGE_GAP_MM: Final = 1.3
SLIT_MM: Final = 1.5


@dataclass(frozen=True)
class Vertebra:
    """A vertebral body where it stands.

    name: ``"S1"``, ``"L5"`` … ``"C2"``; the lower sacral segments are ``"S2"`` … ``"S5"``. label: its number
    in the label map (`spinecore.labels`). gain: its marrow's brightness beside the others'.
    """

    index: int
    name: str
    label: int
    frame: Frame
    shape: BodyShape
    gain: float


@dataclass(frozen=True)
class DiscState:
    """State of the disc above vertebra `index`; `bulge` and `protrusion` are shares of the body's half
    depth."""

    index: int
    bulge: float
    protrusion: float
    degenerate: bool
    cleft: bool
    gain: float
    stenosis: float


@dataclass(frozen=True)
class Column:
    """The bones and discs of one patient; `positions_mm` (28,) are the arc lengths of the bodies' middles.

    `variant.s1` is the uppermost sacral segment; what is above it is mobile.
    """

    scale: float
    curve: ColumnCurve
    positions_mm: F64
    half_depth_mm: F64
    half_width_mm: F64
    half_height_mm: F64
    vertebrae: tuple[Vertebra, ...]
    discs: tuple[DiscState, ...]
    variant: Variant


def draw_column(rng: np.random.Generator, config: PhantomConfig, variant: Variant) -> Column:
    """Draw a column and push vertebrae apart where endplates would touch."""
    scale = rng.uniform(0.85, 1.15)
    shapes = draw_shapes(rng, scale, config, variant)
    thickness = draw_thickness(rng, scale, config, variant)
    course = draw_course(rng, config, variant)
    pose = draw_pose(rng, variant)
    gains = np.exp(rng.normal(0, rng.uniform(0.0, 0.12), COUNT))
    discs = draw_disc_states(rng, config, thickness, variant)
    for _ in range(4):
        curve, positions, vertebrae = stand(shapes, thickness, course, pose, gains, variant)
        missing = MIN_EDGE_GAP_MM - edge_gaps(vertebrae, variant.s1)
        if missing.max() <= 0:
            break
        thickness = thickness + np.maximum(missing, 0) * 1.05
    half = np.array([[v.half_depth, v.half_width, v.half_height] for v in shapes]).T
    return Column(scale, curve, positions, half[0], half[1], half[2], vertebrae, discs, variant)


def draw_shapes(
    rng: np.random.Generator, scale: float, config: PhantomConfig, variant: Variant
) -> list[BodyShape]:
    """Draw the 28 bodies."""
    s1, roles = variant.s1, variant.roles
    size = np.array([HEIGHT_MM, DEPTH_MM, WIDTH_MM])[:, roles] * scale
    height = size[0] * rng.normal(1, 0.04, COUNT)
    depth = size[1] * rng.normal(1, 0.03, COUNT) * rng.uniform(0.9, 1.12)
    width = size[2] * rng.normal(1, 0.03, COUNT) * rng.uniform(0.9, 1.1)
    wedge, crush = draw_wedges(rng, config, variant)
    hollow_up = rng.uniform(0.3, 2.2, COUNT) * height / 27
    hollow_down = rng.uniform(0.3, 2.6, COUNT) * height / 27
    taper = rng.normal(0, 0.015, COUNT)
    taper[: s1 + 1] += np.array(SACRUM_TAPER)[roles[: s1 + 1]]
    waist, lip, notch = rng.uniform(0.03, 0.17), rng.uniform(0, 0.06), rng.uniform(0.03, 0.14)
    exponent = rng.uniform(2.0, 3.2)
    lips = lip * rng.uniform(0, 1, COUNT)
    waists = np.where(s1 >= LEVEL, 0.03, waist)
    return [
        BodyShape(
            half_height=height[k] * crush[k] / 2, half_depth=depth[k] / 2, half_width=width[k] / 2,
            wedge=wedge[k], taper=taper[k], waist=waists[k], lip=lips[k], notch=notch,
            exponent=exponent, concave_up=hollow_up[k], concave_down=hollow_down[k],
        )
        for k in range(COUNT)
    ]  # fmt: skip


def draw_wedges(rng: np.random.Generator, config: PhantomConfig, variant: Variant) -> tuple[F64, F64]:
    """(28,) wedge of each body and the share of its height that a compression fracture left."""
    wedge = rng.normal(0, 0.03, COUNT) + np.interp(variant.roles, *WEDGE_KNOTS)
    wedge[variant.s1] -= rng.uniform(0.0, 0.15)
    crush = np.ones(COUNT)
    if rng.random() < config.fracture:
        broken = rng.integers(L5, 16)
        wedge[broken] += rng.uniform(0.05, 0.25)
        crush[broken] = rng.uniform(0.7, 0.95)
    return np.asarray(wedge), crush


def draw_thickness(rng: np.random.Generator, scale: float, config: PhantomConfig, variant: Variant) -> F64:
    """(27,) mm between the endplates' edges, some discs collapsed."""
    thickness = np.array(DISC_MM)[variant.roles[:-1]] * scale * rng.uniform(0.8, 1.2)
    thickness *= np.clip(rng.normal(1, 0.12, COUNT - 1), 0.6, 1.4)
    collapsed = rng.random(COUNT - 1) < config.disc_degeneration / 3
    collapsed[: variant.s1] = False
    thickness[collapsed] *= rng.uniform(0.35, 0.7)
    thickness[sorted(variant.fused | variant.slits)] = SLIT_MM
    if variant.kind == "lumbarised_s1":
        thickness[variant.s1] = variant.rudiment_mm
    return np.asarray(thickness)


def draw_course(rng: np.random.Generator, config: PhantomConfig, variant: Variant) -> tuple[F64, F64, float]:
    """Tangent angle (28,) rad, sideways shift (28,) mm and the smoothing of the bends in mm."""
    lordosis = np.clip(rng.normal(0.72, 0.25), 0.1, 1.3)
    kyphosis, neck = rng.normal(0.8, 0.3), rng.normal(1, 0.5)
    sacrum = 22 + 36 * lordosis + rng.normal(0, 6)
    tip = sacrum - rng.uniform(20, 60)
    angles = [
        tip, sacrum, 13 + 32 * lordosis + rng.normal(0, 4), 26 * lordosis + rng.normal(0, 3), 3,
        -14 * lordosis, -12 * kyphosis, -1, 16 * kyphosis, 19 * kyphosis, 10 * neck, -4 * neck,
    ]  # fmt: skip
    theta = np.interp(variant.roles, ANGLE_KNOTS, angles) + rng.normal(0, 7) + rng.normal(0, 1.0, COUNT)
    phase, period = rng.uniform(0, 300), rng.uniform(250, 500)
    along = LEVEL * 24.0
    lateral = rng.normal(0, 6) * np.sin(2 * np.pi * (along - phase) / period)
    lateral = config.scoliosis * (lateral + (along - along.mean()) * np.tan(rng.normal(0, 0.03)))
    return np.deg2rad(theta), lateral, rng.uniform(4, 10)


def draw_pose(rng: np.random.Generator, variant: Variant) -> F64:
    """(28, 4): slip posteriorly in mm, then tilt, lateral tilt and axial rotation in rad."""
    slip = rng.normal(0, 0.5, COUNT)
    if rng.random() < 0.1:
        slip[rng.integers(L5, 8)] += rng.normal(0, 3)
    slip[: variant.s1] *= 0.3
    twist = rng.normal(0, 0.02) + rng.normal(0, 0.03) * np.sin(LEVEL / rng.uniform(3, 8))
    return np.stack([slip, rng.normal(0, 0.02, COUNT), rng.normal(0, 0.012, COUNT), twist], axis=1)


def draw_disc_states(
    rng: np.random.Generator, config: PhantomConfig, thickness: F64, variant: Variant
) -> tuple[DiscState, ...]:
    """Draw degeneration, bulges and stenoses; thin discs are degenerated more often."""
    normal = np.array(DISC_MM)[variant.roles[:-1]]
    cleft = rng.random() < 0.5
    states = []
    for k in range(COUNT - 1):
        thin = thickness[k] < 0.6 * normal[k]
        degenerate = bool(rng.random() < config.disc_degeneration + 0.4 * thin)
        bulging, narrow = rng.random() < config.bulge, rng.random() < config.stenosis
        protrusion, depth = rng.uniform(0.05, 0.25), rng.uniform(0.1, 0.45)
        usable = k >= variant.s1
        states.append(DiscState(
            index=k, bulge=float(np.clip(rng.normal(0.0, 0.035), -0.06, 0.12)),
            protrusion=float(protrusion) if bulging and usable else 0.0, degenerate=degenerate,
            cleft=bool(cleft and rng.random() < 0.7), gain=float(np.exp(rng.normal(0, 0.12))),
            stenosis=float(depth) if narrow and usable else 0.0,
        ))  # fmt: skip
    return tuple(states)


def stand(
    shapes: list[BodyShape],
    thickness: F64,
    course: tuple[F64, F64, float],
    pose: F64,
    gains: F64,
    variant: Variant,
) -> tuple[ColumnCurve, F64, tuple[Vertebra, ...]]:
    """Stack the bodies along the curve."""
    half = np.array([shape.half_height for shape in shapes])
    positions = np.concatenate([[0.0], np.cumsum(half[:-1] + thickness + half[1:])]) + half[0]
    angles, lateral, smoothing = course
    curve = curve_from_angles(positions, angles, lateral, smoothing_mm=smoothing, margin_mm=(70.0, 110.0))
    vertebrae = tuple(
        Vertebra(
            k, variant.name_of(k), variant.labels[k], _frame(curve, positions[k], pose[k]), shapes[k],
            float(gains[k]),
        )
        for k in range(COUNT)
    )  # fmt: skip
    return curve, positions, vertebrae


def _frame(curve: ColumnCurve, position: float, pose: F64) -> Frame:
    slip, tilt, lean, twist = pose
    axes = curve.axes(position)
    turn = _rotation(2, tilt) @ _rotation(1, lean) @ _rotation(0, twist)
    return Frame(curve.point(position, slip), turn @ axes)


def _rotation(axis: int, angle: float) -> F64:
    first, second = [i for i in range(3) if i != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def edge_gaps(vertebrae: tuple[Vertebra, ...], s1: int) -> F64:
    """(27,) smallest distance in mm between the facing edges of neighbours, along the lower one's axis."""
    gaps = np.empty(COUNT - 1)
    for k in range(COUNT - 1):
        lower, upper = vertebrae[k], vertebrae[k + 1]
        distances = []
        for posterior in (False, True):
            edge = lower.frame.local(upper.frame.world(upper.shape.corner(upper=False, posterior=posterior)))
            distances.append(edge[0] - lower.shape.top(edge[1], edge[2]))
        gaps[k] = min(distances) - (0.0 if k >= s1 else MIN_EDGE_GAP_MM - 0.5)
    return gaps
