"""The spinal canal (dural sac): a tube of fluid along the column in a wall of known thickness.

In the coordinates (s, n, w) of the column's curve the fluid is |n - centre(s)|^p / half_ap(s)^p + |w /
half_width|^p < 1. Its front follows the posterior edges of bodies and discs at a gap of epidural space;
bulges indent it and stenoses narrow it. The canal is the fluid with its wall, and by construction never
overlaps bodies and discs in the midline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from spinecore.phantom.column import C2, COUNT, LEVEL, Column
from spinecore.phantom.curve import F64, STEP_MM

HALF_AP_MM = np.interp(
    LEVEL, [0, 2, 3, 4, 6, 9, 12, 20, 22, 26, 27], [0.3, 1.0, 4.5, 6.3, 7.5, 8, 7.5, 7, 7.0, 7.2, 8.2]
)
HALF_WIDTH_MM = np.interp(
    LEVEL, [0, 2, 3, 4, 6, 9, 12, 20, 22, 26, 27], [0.3, 2, 7, 9.5, 9.5, 10, 8.5, 8.5, 11, 11.5, 12]
)
GAP_MM = np.interp(LEVEL, [0, 3, 4, 5, 6, 9, 27], [2, 3.5, 3.5, 2.6, 1.3, 0.9, 0.9])
WALL_AHEAD_MM = 0.6
"""Wall in front of the fluid: the dura and what of the posterior longitudinal ligament clings to it. The one
labelled real image at hand counts both as canal; no bone or disc is nearer to the fluid (`fluid_front`)."""
WALL_MM = 0.4
"""Wall beside and behind the fluid: lumbar dura, 0.25 to 0.4 mm in adults."""
LOWEST_LEVEL = 2.5
FORAMEN_MAGNUM_ABOVE_C2_MM = 26.0


@dataclass(frozen=True)
class Canal:
    """The fluid's bounds sampled on the curve's arc lengths `s_mm` (M,); everything in mm.

    `taken_ahead_mm` and `taken_behind_mm` (M,) is the depth that stenoses took from in front and from behind.
    """

    s_mm: F64
    centre_mm: F64
    half_ap_mm: F64
    half_width_mm: F64
    exponent: float
    narrowing: float
    ends_mm: tuple[float, float]
    taken_ahead_mm: F64
    taken_behind_mm: F64

    def at(self, s_mm: NDArray[np.floating[Any]]) -> tuple[F64, F64, F64]:
        """Centre, half AP and half width of the fluid at arc lengths `s_mm`."""
        return (
            np.interp(s_mm, self.s_mm, self.centre_mm),
            np.interp(s_mm, self.s_mm, self.half_ap_mm),
            np.interp(s_mm, self.s_mm, self.half_width_mm),
        )

    def wall_at(self, s_mm: NDArray[np.floating[Any]]) -> tuple[F64, F64, F64]:
        """The same of the canal, which is the fluid with its wall."""
        centre, half_ap, half_width = self.at(s_mm)
        return (
            centre + (WALL_MM - WALL_AHEAD_MM) / 2,
            half_ap + (WALL_MM + WALL_AHEAD_MM) / 2,
            half_width + WALL_MM,
        )

    def healthy_at(self, s_mm: NDArray[np.floating[Any]]) -> tuple[F64, F64]:
        """Centre and half AP of the fluid at arc lengths `s_mm` as they were without stenoses."""
        centre, half_ap, _ = self.at(s_mm)
        ahead = np.interp(s_mm, self.s_mm, self.taken_ahead_mm)
        behind = np.interp(s_mm, self.s_mm, self.taken_behind_mm)
        return centre + (behind - ahead) / 2, half_ap + (ahead + behind) / 2

    def radius(self, s_mm: F64, n_mm: F64, l_mm: F64) -> F64:
        """1 on the wall's outside, 0 on the centre line."""
        centre, half_ap, half_width = self.wall_at(s_mm)
        across = (n_mm - centre) / half_ap
        width = half_width * (1 - self.narrowing * np.clip(across, 0, 1))
        power = np.abs(across) ** self.exponent + np.abs(l_mm / width) ** self.exponent
        return np.asarray(power ** (1 / self.exponent))


def draw_canal(rng: np.random.Generator, column: Column) -> Canal:
    """Build the walls from the bones' edges and draw what is free."""
    curve, positions = column.curve, column.positions_mm
    size = (0.5 + 0.5 * column.scale) * rng.uniform(0.85, 1.25)
    width = (0.5 + 0.5 * column.scale) * rng.uniform(0.85, 1.2)
    roles = column.variant.roles
    gaps = GAP_MM[roles] * rng.uniform(0.7, 1.6)
    front = fluid_front(column, gaps)
    smooth_front = gaussian_filter1d(front, 8.0 / STEP_MM, mode="nearest")
    half_ap = np.interp(curve.s_mm, positions, HALF_AP_MM[roles] * size * rng.normal(1, 0.02, COUNT))
    back = smooth_front + 2 * half_ap
    ahead, behind = stenosis_profile(rng, column)
    span = back - front
    front, back = front + ahead * span, back - behind * span
    half = np.maximum((back - front) / 2, 0.3)
    top = positions[C2] + column.half_height_mm[C2] + FORAMEN_MAGNUM_ABOVE_C2_MM * column.scale
    bottom = float(np.interp(LOWEST_LEVEL, roles, positions))
    return Canal(
        curve.s_mm, (front + back) / 2, half, np.interp(curve.s_mm, positions, HALF_WIDTH_MM[roles] * width),
        float(rng.uniform(1.9, 2.6)), float(rng.uniform(0, 0.25)), (bottom, float(top)),
        ahead * span, behind * span,
    )  # fmt: skip


def fluid_front(column: Column, gaps: F64) -> F64:
    """(M,) mm: `n` of the fluid's front along the curve."""
    points, clearances = [], []
    for vertebra in column.vertebrae:
        for upper in (False, True):
            points.append(vertebra.frame.world(vertebra.shape.corner(upper=upper, posterior=True)))
            clearances.append(gaps[vertebra.index])
    for disc in column.discs[column.variant.s1 :]:
        points.append(disc_posterior_point(column, disc.index))
        gap = gaps[disc.index] * (0.2 if disc.protrusion > 0 else 0.7)
        clearances.append(max(WALL_AHEAD_MM + 0.3, gap))  # discs reach up to 0.3 mm beyond that point
    located = np.array(points)
    s, n = column.curve.project(located[:, 1], located[:, 2])
    order = np.argsort(s)
    s, wall = s[order], (n + np.array(clearances))[order]
    keep = np.concatenate([[True], np.diff(s) > 0.05])
    spline = PchipInterpolator(s[keep], wall[keep], extrapolate=False)
    return np.asarray(spline(np.clip(column.curve.s_mm, s[keep][0], s[keep][-1])))


def disc_posterior_point(column: Column, index: int) -> F64:
    """(3,) LPS mm of the most posterior point of disc `index` in the midline, bulge included."""
    lower, upper = column.vertebrae[index], column.vertebrae[index + 1]
    state = column.discs[index]
    edges = []
    for vertebra, top in ((lower, True), (upper, False)):
        s, n, w = vertebra.shape.corner(upper=top, posterior=True)
        reach = (
            vertebra.shape.half_depth * (1 + vertebra.shape.lip) * max(state.bulge + state.protrusion, 0.0)
        )
        edges.append(vertebra.frame.world(np.array([s, n + 1.1 * reach + 0.3, w])))
    return np.asarray((edges[0] + edges[1]) / 2)


def stenosis_profile(rng: np.random.Generator, column: Column) -> tuple[F64, F64]:
    """Shares of the canal's depth (M,) taken from in front and from behind."""
    s = column.curve.s_mm
    ahead, behind = np.zeros_like(s), np.zeros_like(s)
    for disc in column.discs:
        share, length, shift = rng.uniform(0.0, 0.4), rng.uniform(4, 9), rng.normal(0, 1.5)
        if disc.stenosis <= 0:
            continue
        middle = 0.5 * (column.positions_mm[disc.index] + column.positions_mm[disc.index + 1]) + shift
        bump = disc.stenosis * np.exp(-(((s - middle) / length) ** 2))
        ahead, behind = ahead + share * bump, behind + (1 - share) * bump
    total = np.maximum((ahead + behind) / 0.6, 1)
    return ahead / total, behind / total
