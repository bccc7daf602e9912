"""The canal's AP diameter where a level's mid plane crosses it, and its course around that place.

Definitions
-----------
AP diameter at a level
    Chord of the canal label through the canal's centre line where the level's mid plane (of a disc, or of a
    vertebral body) meets it, perpendicular to the centre line (its course over ±8 mm), in the midsagittal
    plane.
Smallest AP diameter of a level
    The smallest such chord, perpendicular to the centre line where it is taken, over the stretch of the
    canal that is nearer to this level's crossing than to the ones of the levels next to it (discs and bodies
    by turns). Every place of the canal so belongs to one level.

The canal's chord is taken at several lateral offsets; a parabola through its square gives the midsagittal
one, which lets 4 mm thick slices speak for the plane between them. Along the course the median of three
neighbouring millimetres is used, so that a single notch of the label map is not a stenosis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from spinecore.disc_frame import DiscFrame
from spinecore.frame_fit import FloatArray, LabelMap, soft_mask
from spinecore.geometry import Affine
from spinecore.labels import CANAL
from spinecore.reformat import SampleGrid

TANGENT_REACH_MM = 8.0
MIN_CANAL_AP_MM = 1.0
COURSE_REACH_MM = 14.0  # no level's stretch is longer to one side
SMOOTH_OVER = 3  # samples of the course
FILLED = 0.02  # of the canal: more than what rounding leaves

CANAL_GRID = SampleGrid.spanning((-12, 12), (-62, -4), (-2, 2), step_mm=(0.5, 0.5, 1.0))
CHORD_GRID = SampleGrid.spanning((-1, 1), (-18, 18), (-5, 5), step_mm=(0.5, 0.25, 1.0))
COURSE_GRID = SampleGrid.spanning(
    (-COURSE_REACH_MM - 2, COURSE_REACH_MM + 2), (-18, 18), (-5, 5), step_mm=(1.0, 0.25, 1.0)
)

Line = FloatArray  # (2, 3) end points in LPS mm


@dataclass(frozen=True, eq=False)
class Length:
    """A measured length: mm, and where it was taken, (2, 3) LPS mm."""

    mm: float
    line: Line


@dataclass(frozen=True, eq=False)
class CanalCourse:
    """The canal around one level.

    ap: the AP diameter at the level's mid plane, from its anterior to its posterior end. crossing_mm (3,)
    LPS: where the centre line meets the mid plane. s_mm (K,): places along the canal, caudal to cranial, 0
    at the crossing; chords_mm (K,) and lines (K, 2, 3) LPS mm: the AP diameters there.
    """

    ap: Length
    crossing_mm: FloatArray
    s_mm: FloatArray
    chords_mm: FloatArray
    lines: FloatArray

    def narrowest(self, below_mm: float, above_mm: float) -> Length:
        """The smallest AP diameter from `below_mm` caudal to `above_mm` cranial of the crossing."""
        within = (self.s_mm >= -below_mm) & (self.s_mm <= above_mm)
        if not within.any() or self.ap.mm <= self.chords_mm[within].min():
            return self.ap
        k = int(np.flatnonzero(within)[np.argmin(self.chords_mm[within])])
        return Length(float(self.chords_mm[k]), self.lines[k])


def measure_canal(labels: LabelMap, affine: Affine, frame: DiscFrame) -> CanalCourse | None:
    """The canal's course behind the level with mid plane `frame` (origin, e_a and e_l lie in the plane).

    labels: (Z, Y, X). None where no canal crosses the plane.
    """
    near = soft_mask(labels, CANAL, affine, frame, CANAL_GRID, prolonged=True).mean(axis=2)
    across = _canal_frame(near, frame)
    if across is None:
        return None
    canal = soft_mask(labels, CANAL, affine, across, CHORD_GRID, prolonged=True).mean(axis=0)
    mm, middle = _chord(canal)
    if mm < MIN_CANAL_AP_MM:
        return None
    ends = [(0.0, middle + mm / 2, 0.0), (0.0, middle - mm / 2, 0.0)]
    course = _course(soft_mask(labels, CANAL, affine, across, COURSE_GRID, prolonged=True), across)
    return CanalCourse(Length(mm, across.to_lps(ends)), across.origin_mm, *course)


def _course(canal: FloatArray, across: DiscFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Places (K,), AP diameters (K,) and their ends (K, 2, 3) LPS mm along the canal mask (s, a, l)."""
    s = COURSE_GRID.coordinates(0)
    found = np.array([_chord(section) for section in canal])
    there = found[:, 0] >= MIN_CANAL_AP_MM
    if there.sum() < SMOOTH_OVER + 1:
        return np.empty(0), np.empty(0), np.empty((0, 2, 3))
    slope = np.polyval(np.polyder(np.polyfit(s[there], found[there, 1], 2)), s)
    cosine = 1 / np.sqrt(1 + slope**2)
    chords = median_filter(np.where(there, found[:, 0] * cosine, 0.0), SMOOTH_OVER, mode="nearest")
    kept = there & (chords >= MIN_CANAL_AP_MM)
    half = chords[:, None] / 2 * np.stack([-slope * cosine, cosine], axis=1)  # (K, 2): along s and a
    middles = np.stack([s, found[:, 1]], axis=1)
    ends = np.stack([middles + half, middles - half], axis=1)
    lines = across.to_lps(np.concatenate([ends, np.zeros((len(s), 2, 1))], axis=2))
    return s[kept], chords[kept], lines[kept]


def _canal_frame(canal: FloatArray, frame: DiscFrame) -> DiscFrame | None:
    """Frame on the canal's centre line in the level's mid plane, e_s along the canal.

    canal: midsagittal mask (s, a) on `CANAL_GRID`. None where no canal crosses the plane.
    """
    s, a = CANAL_GRID.coordinates(0), CANAL_GRID.coordinates(1)
    weight = canal.sum(axis=1)
    centre = canal @ a / np.maximum(weight, 1e-9)
    crossed = (weight * CANAL_GRID.step_mm[1] >= MIN_CANAL_AP_MM) & (np.abs(s) <= TANGENT_REACH_MM)
    if crossed.sum() < 4 or not crossed[np.abs(s) <= 2].any():
        return None
    bend = np.polyfit(s[crossed], centre[crossed], 2)
    low, high = float(s[crossed].min()), float(s[crossed].max())
    slope = float((np.polyval(bend, high) - np.polyval(bend, low)) / (high - low))
    return DiscFrame.from_axes(
        frame.to_lps((0.0, float(bend[-1]), 0.0)), cranial=frame.axes @ (1.0, slope, 0.0), anterior=frame.e_a
    )


def _chord(canal: FloatArray) -> tuple[float, float]:
    """Midsagittal chord in mm of a section (a, l) of the canal, and its middle on the a axis in mm."""
    lengths, middles = _runs_through_middle(canal)
    return _midsagittal_chord(lengths, CHORD_GRID.coordinates(2)), float(middles[len(middles) // 2])


def _runs_through_middle(canal: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Per lateral offset: length in mm of the canal's run nearest the centre line, and its middle in mm.

    canal: (a, l) on `CHORD_GRID`.
    """
    a = CHORD_GRID.coordinates(1)
    kept = _nearest_runs(np.ascontiguousarray(canal.T), a)
    totals = kept.sum(axis=1)
    middles = [float(a @ run) / total if total > 0 else 0.0 for run, total in zip(kept, totals, strict=True)]
    return totals * CHORD_GRID.step_mm[1], np.array(middles)


def _nearest_runs(columns: FloatArray, a: FloatArray) -> FloatArray:
    """`_nearest_run` of each of the rows of `columns`; most have one run, which is told without a loop."""
    filled = columns > FILLED
    runs = filled[:, 0] + (filled[:, 1:] & ~filled[:, :-1]).sum(axis=1)
    kept = np.where(filled, columns, 0.0)
    for row in np.flatnonzero(runs > 1):
        kept[row] = _nearest_run(columns[row], a)
    return kept


def _nearest_run(column: FloatArray, a: FloatArray) -> FloatArray:
    """`column` with everything set to 0 but the connected non-zero run nearest to a = 0."""
    filled = np.flatnonzero(column > FILLED)
    if not len(filled):
        return np.zeros_like(column)
    runs = np.split(filled, np.flatnonzero(np.diff(filled) > 1) + 1)
    run = min(runs, key=lambda r: float(np.abs(a[r]).min()) - 1e-3 * len(r))
    kept = np.zeros_like(column)
    kept[run] = column[run]
    return kept


def _midsagittal_chord(chords: FloatArray, offsets_mm: FloatArray) -> float:
    """Chord at offset 0 from a parabola through the squared chords (an ellipse's are one); 0 without any."""
    usable = chords > 0.6 * chords.max() if chords.max() > 0 else chords > 0
    if usable.sum() < 3:
        return float(chords.max())
    at_middle = np.polyfit(offsets_mm[usable], chords[usable] ** 2, 2)[-1]
    return float(np.sqrt(max(float(at_middle), 0.0)))
