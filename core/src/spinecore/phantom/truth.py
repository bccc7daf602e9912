"""What is true of a phantom: levels, disc heights and canal diameters from its surfaces, not from voxels.

The definitions are those of `spinecore.measure`:

* Disc frame: the midpoints between the facing corners of the two bodies in the midsagittal plane, posterior
  and anterior, span the disc's mid plane. `e_a` runs from the posterior to the anterior one, `e_l` to the
  left, `e_s` cranially; the origin is halfway between them.
* Disc height at a fraction t of the way from the posterior (0) to the anterior midpoint (1): distance of
  the two endplate surfaces along `e_s` in the midsagittal plane; posterior 0.15, middle 0.5, anterior 0.85,
  mean over 0.1…0.9.
* Canal AP diameter of a disc or a body: chord of the canal through its centre line where the level's mid
  plane meets it, perpendicular to the centre line (its course over ±`TANGENT_REACH_MM`), in the level's
  midsagittal plane. A body's mid plane halves it between its endplates.
* Smallest canal AP diameter of a level: the smallest such chord over the stretch of the centre line that is
  nearer to this level's crossing than to those of its neighbours (bodies and discs by turns).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spinecore.labels import disc_label, disc_name
from spinecore.phantom.canal import Canal
from spinecore.phantom.column import C2, Column, Vertebra
from spinecore.phantom.config import VariantKind
from spinecore.phantom.curve import ColumnCurve
from spinecore.phantom.grid import U8

F64 = NDArray[np.float64]

POSTERIOR_T: Final = 0.15
MIDDLE_T: Final = 0.5
ANTERIOR_T: Final = 0.85
MEAN_T: Final = tuple(np.linspace(0.1, 0.9, 33).tolist())
TANGENT_REACH_MM: Final = 8.0
STRETCH_STEP_MM: Final = 0.5
_RAY_MM: Final = np.arange(0.0, 20.0, 0.1)


@dataclass(frozen=True)
class VertebraTruth:
    """A vertebra that is in the image. `centroid_lps_mm` (3,) is the middle of its body (S1's for the
    sacrum). Canal diameters in mm, None for the sacrum and C2; `canal_in_view` says that the chord lies in
    the field of view."""

    name: str
    label: int
    centroid_lps_mm: F64
    complete: bool
    canal_ap_mm: float | None
    canal_min_ap_mm: float | None
    canal_in_view: bool


@dataclass(frozen=True)
class DiscTruth:
    """A disc that is in the image; lengths in mm, points LPS mm.

    `frame` (3, 3) holds e_s, e_a, e_l as rows. `height_lines_lps_mm` (3, 2, 3): anterior, middle, posterior
    height, lower and upper end. `canal_ap_line_lps_mm` (2, 3): anterior and posterior end. `complete` says
    that the disc's outline and the canal's chord lie wholly in the field of view.
    """

    name: str
    label: int
    upper: str
    lower: str
    centroid_lps_mm: F64
    frame: F64
    anterior_mm: float
    middle_mm: float
    posterior_mm: float
    mean_mm: float
    height_lines_lps_mm: F64
    canal_ap_mm: float
    canal_ap_line_lps_mm: F64
    canal_min_ap_mm: float
    degenerate: bool
    stenosis: float
    complete: bool


@dataclass(frozen=True)
class PhantomTruth:
    """Levels and measurements, cranial to caudal, and how the vertebrae are counted (`variants`)."""

    vertebrae: tuple[VertebraTruth, ...]
    discs: tuple[DiscTruth, ...]
    variant: VariantKind = "usual"

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, for `json.dump`."""
        levels: dict[str, Any] = {
            kind: [
                {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(item).items()}
                for item in items
            ]
            for kind, items in (("vertebrae", self.vertebrae), ("discs", self.discs))
        }
        return {**levels, "variant": self.variant}


@dataclass(frozen=True)
class View:
    """The field of view in the patient's frame: low and high corner (3,) LPS mm, and the way out to the
    scanner's frame as an affine (4, 4)."""

    low: F64
    high: F64
    to_scanner: F64

    def holds(self, points: F64) -> bool:
        """Whether all (..., 3) points lie inside."""
        return bool(((points >= self.low) & (points <= self.high)).all())

    def out(self, points: F64) -> F64:
        """(..., 3) points of the patient's frame in the scanner's LPS frame."""
        return np.asarray(points @ self.to_scanner[:3, :3].T + self.to_scanner[:3, 3])


@dataclass(frozen=True)
class DiscGeometry:
    """A disc's frame in the patient's frame: `origin` (3,), `axes` (3, 3) rows e_s, e_a, e_l, `length_mm`
    between the corner midpoints."""

    origin: F64
    axes: F64
    length_mm: float


@dataclass(frozen=True)
class CanalLevel:
    """The canal at one level: AP chord (2, 3) in the patient's frame, arc length of its middle on the curve,
    and the smallest AP diameter in mm."""

    chord: F64
    s_mm: float
    min_ap_mm: float


def measure_truth(column: Column, canal: Canal, labels: U8, view: View) -> PhantomTruth:
    """Truth of all vertebrae and discs that have voxels in `labels`."""
    present = set(np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist())
    s1 = column.variant.s1
    vertebrae = [v for v in reversed(column.vertebrae) if v.index >= s1 and v.label in present]
    found = [k for k in range(C2 - 1, s1 - 1, -1) if disc_label(column.vertebrae[k + 1].label) in present]
    bodies = [v.index for v in vertebrae if s1 < v.index < C2]
    levels = canal_levels(column, canal, {2 * k + 1 for k in found} | {2 * k for k in bodies})
    return PhantomTruth(
        tuple(_vertebra_truth(v, levels.get(2 * v.index), view) for v in vertebrae),
        tuple(_disc_truth(column, levels[2 * k + 1], k, view) for k in found),
        column.variant.kind,
    )


def canal_levels(column: Column, canal: Canal, wanted: set[int]) -> dict[int, CanalLevel]:
    """The canal at levels 2 k (body k) and 2 k + 1 (disc k) that are `wanted`, by level."""
    levels = range(2 * column.variant.s1 + 1, 2 * C2)
    needed = sorted({n for w in wanted for n in (w - 1, w, w + 1) if n in levels})
    frames = {n: level_geometry(column, n) for n in needed}
    s = {n: crossing(column.curve, canal, f, column.positions_mm[n // 2]) for n, f in frames.items()}
    middles = {n: centre_line(column.curve, canal, np.array([s[n]]))[0] for n in needed}
    found = {}
    for n in sorted(wanted & set(levels)):
        halves = [
            float(np.linalg.norm(middles[n] - middles[m])) / 2 if m in middles else None
            for m in (n - 1, n + 1)
        ]
        below, above = (h if h is not None else other or 0.0 for h, other in (halves, halves[::-1]))
        chord = canal_chord(column.curve, canal, frames[n], s[n])
        stretch = s[n] + np.arange(-below, above + 1e-6, STRETCH_STEP_MM)
        smallest = _chord_lengths(column.curve, canal, stretch, frames[n].axes[2]).min()
        found[n] = CanalLevel(chord, s[n], min(float(smallest), float(np.linalg.norm(chord[1] - chord[0]))))
    return found


def level_geometry(column: Column, level: int) -> DiscGeometry:
    """Mid plane of body or disc `level` (as in `canal_levels`)."""
    lower = column.vertebrae[level // 2]
    if level % 2:
        return disc_geometry(lower, column.vertebrae[level // 2 + 1])
    s, n, w = lower.frame.axes
    return DiscGeometry(lower.frame.origin, np.stack([s, -n, w]), 2 * lower.shape.half_depth)


def _vertebra_truth(vertebra: Vertebra, canal: CanalLevel | None, view: View) -> VertebraTruth:
    centre = vertebra.frame.origin
    outline = _outline(vertebra, (-1.0, 1.0))
    return VertebraTruth(
        vertebra.name, vertebra.label, view.out(centre), view.holds(outline),
        float(np.linalg.norm(canal.chord[1] - canal.chord[0])) if canal else None,
        canal.min_ap_mm if canal else None,
        canal is not None and view.holds(canal.chord),
    )  # fmt: skip


def _outline(vertebra: Vertebra, heights: tuple[float, ...]) -> F64:
    """Points (N, 3) round a body at the given shares of its half height."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    shape = vertebra.shape
    across, side = shape.half_depth * np.cos(angle), shape.half_width * np.sin(angle)
    rings = [np.stack([np.full(16, height * shape.half_height), across, side], axis=1) for height in heights]
    return vertebra.frame.world(np.concatenate(rings))


def _disc_truth(column: Column, canal: CanalLevel, index: int, view: View) -> DiscTruth:
    lower, upper = column.vertebrae[index], column.vertebrae[index + 1]
    disc = disc_geometry(lower, upper)
    t = np.array([ANTERIOR_T, MIDDLE_T, POSTERIOR_T, *MEAN_T])
    lines = height_lines(lower, upper, disc, t)
    heights = np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1)
    chord = canal.chord
    outline = np.concatenate([_outline(lower, (1.0,)), _outline(upper, (-1.0,)), chord])
    state = column.discs[index]
    return DiscTruth(
        name=disc_name(upper.name, lower.name), label=disc_label(upper.label),
        upper=upper.name, lower=lower.name,
        centroid_lps_mm=view.out(disc.origin), frame=disc.axes @ view.to_scanner[:3, :3].T,
        anterior_mm=float(heights[0]), middle_mm=float(heights[1]), posterior_mm=float(heights[2]),
        mean_mm=float(heights[3:].mean()), height_lines_lps_mm=view.out(lines[:3]),
        canal_ap_mm=float(np.linalg.norm(chord[1] - chord[0])), canal_ap_line_lps_mm=view.out(chord),
        canal_min_ap_mm=canal.min_ap_mm, degenerate=state.degenerate, stenosis=state.stenosis,
        complete=view.holds(outline),
    )  # fmt: skip


def disc_geometry(lower: Vertebra, upper: Vertebra) -> DiscGeometry:
    """The disc's frame from the facing corners of its neighbours."""
    middles = [
        (lower.frame.world(lower.shape.corner(upper=True, posterior=posterior))
         + upper.frame.world(upper.shape.corner(upper=False, posterior=posterior))) / 2
        for posterior in (True, False)
    ]  # fmt: skip
    e_a = middles[1] - middles[0]
    length = float(np.linalg.norm(e_a))
    e_a = e_a / length
    left = lower.frame.axes[2] + upper.frame.axes[2]
    e_l = left - (left @ e_a) * e_a
    e_l /= np.linalg.norm(e_l)
    return DiscGeometry((middles[0] + middles[1]) / 2, np.stack([np.cross(e_a, e_l), e_a, e_l]), length)


def height_lines(lower: Vertebra, upper: Vertebra, disc: DiscGeometry, t: F64) -> F64:
    """(T, 2, 3) points on the lower and the upper endplate at fractions `t`, found by bisection."""
    e_s, e_a, _ = disc.axes
    base = disc.origin + (t[:, None] - 0.5) * disc.length_mm * e_a

    def beyond(vertebra: Vertebra, offset: F64) -> F64:
        """Positive inside the body."""
        s, n, w = np.moveaxis(vertebra.frame.local(base + offset[:, None] * e_s), -1, 0)
        return np.asarray(
            vertebra.shape.top(n, w) - s if vertebra is lower else s - vertebra.shape.bottom(n, w)
        )

    ends = []
    for vertebra, direction in ((lower, -1.0), (upper, 1.0)):
        near, far = np.full(len(t), -6.0), np.full(len(t), 25.0)
        for _ in range(50):
            middle = (near + far) / 2
            inside = beyond(vertebra, direction * middle) > 0
            far, near = np.where(inside, middle, far), np.where(inside, near, middle)
        ends.append(base + (direction * (near + far) / 2)[:, None] * e_s)
    return np.stack(ends, axis=1)


def crossing(curve: ColumnCurve, canal: Canal, level: DiscGeometry, near_s_mm: float) -> float:
    """Arc length on the curve where the canal's centre line crosses a level's mid plane."""
    s = np.arange(near_s_mm - 30, near_s_mm + 60, 0.1)
    side = (centre_line(curve, canal, s) - level.origin) @ level.axes[0]
    return float(s[int(np.argmin(np.abs(side)))])


def canal_chord(curve: ColumnCurve, canal: Canal, level: DiscGeometry, s_mm: float) -> F64:
    """(2, 3) anterior and posterior end of the canal's AP diameter at the crossing `s_mm` of a level."""
    middle = centre_line(curve, canal, np.array([s_mm]))[0]
    across = _across(curve, canal, np.array([s_mm]), level.axes[2])[0]
    across = across / np.linalg.norm(across)
    return np.stack([_wall_point(curve, canal, middle, sign * across) for sign in (1.0, -1.0)])


def _across(curve: ColumnCurve, canal: Canal, s: F64, left: F64) -> F64:
    """(N, 3) anterior vectors, of any length, across the canal's centre line at arc lengths `s`."""
    ends = [centre_line(curve, canal, s + reach) for reach in (-TANGENT_REACH_MM, TANGENT_REACH_MM)]
    return np.cross(left, ends[1] - ends[0])


def _chord_lengths(curve: ColumnCurve, canal: Canal, s: F64, left: F64) -> F64:
    """(N,) AP diameters in mm at arc lengths `s`, all rays at once."""
    middle, across = centre_line(curve, canal, s), _across(curve, canal, s, left)
    across = across / np.linalg.norm(across, axis=1, keepdims=True)
    steps = np.array([1.0, -1.0])[:, None] * _RAY_MM
    points = middle[:, None, None] + steps[..., None] * across[:, None, None]
    at, n = curve.project(points[..., 1], points[..., 2])
    radius = canal.radius(at, n, points[..., 0] - curve.lateral(at))
    last = np.maximum(np.argmax(radius >= 1, axis=2), 1)[..., None]
    outer, inner = (np.take_along_axis(radius, i, axis=2)[..., 0] for i in (last, last - 1))
    reach = _RAY_MM[last[..., 0] - 1] + (1 - inner) / (outer - inner) * (_RAY_MM[1] - _RAY_MM[0])
    return np.asarray(reach.sum(axis=1))


def centre_line(curve: ColumnCurve, canal: Canal, s: F64) -> F64:
    """(N, 3) points of the canal's centre line at arc lengths `s`."""
    centre, _, _ = canal.wall_at(s)
    angle = np.interp(s, curve.s_mm, curve.angle_rad)
    y = np.interp(s, curve.s_mm, curve.y_mm) + centre * np.cos(angle)
    z = np.interp(s, curve.s_mm, curve.z_mm) + centre * np.sin(angle)
    return np.stack([curve.lateral(s), y, z], axis=1)


def _wall_point(curve: ColumnCurve, canal: Canal, start: F64, direction: F64) -> F64:
    """Where the ray from inside the canal leaves it."""
    steps = np.arange(0.0, 20.0, 0.02)
    points = start + steps[:, None] * direction
    s, n = curve.project(points[:, 1], points[:, 2])
    outside = canal.radius(s, n, points[:, 0] - curve.lateral(s)) >= 1
    first = int(np.argmax(outside)) if outside.any() else len(steps) - 1
    return np.asarray(start + (steps[first] - 0.01) * direction)
