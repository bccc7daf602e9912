"""Disc heights and canal diameters in mm, from the label map's geometry.

Definitions (the phantom's truth uses the same, from its analytic surfaces)
----------
Disc frame
    Halfway between the facing posterior corners of the two bodies, and halfway between the anterior ones,
    lie the ends of the disc's mid plane in the midsagittal plane. e_a runs from the posterior to the
    anterior end, e_l to the patient's left, e_s = the normal, caudal to cranial; the origin is halfway
    between the ends.
Disc height at a fraction t of the disc's depth (t = 0 posterior edge, 1 anterior edge)
    Distance between the two bounding endplates (the thickness of the disc label) along e_s in the
    midsagittal plane. Posterior t = 0.15, middle t = 0.5, anterior t = 0.85; mean = average over
    t in [0.1, 0.9].
Canal AP diameter at a disc
    Chord of the canal label (dural sac: CSF, cord and roots) through the canal's centre line where the
    disc's mid plane meets it, perpendicular to the centre line (its course over ±8 mm), in the
    midsagittal plane.

Estimates
---------
Masks are sampled linearly on fine grids in the frame, so that a length is an integral over partial values
rather than a count of voxels. Heights average ±2 mm to the sides and take the median over ±0.05 in t. The
canal's chord is taken at several lateral offsets; a parabola through its square gives the midsagittal one,
which lets 4 mm thick slices speak for the plane between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinecore.disc_frame import DiscFrame
from spinecore.frame_fit import FittedFrame, FloatArray, LabelMap, Neighbours, fit_frame, soft_mask
from spinecore.geometry import Affine
from spinecore.labels import CANAL
from spinecore.reformat import SampleGrid

HEIGHT_AT: dict[str, float] = {"anterior": 0.85, "middle": 0.5, "posterior": 0.15}
MEAN_RANGE = (0.1, 0.9)
T_WINDOW = 0.05
TANGENT_REACH_MM = 8.0
MIN_HEIGHT_MM = 0.3
MIN_CANAL_AP_MM = 1.0

HEIGHT_GRID = SampleGrid.spanning((-16, 16), (-32, 32), (-2, 2), step_mm=(0.25, 0.5, 1.0))
CANAL_GRID = SampleGrid.spanning((-12, 12), (-62, -4), (-2, 2), step_mm=(0.5, 0.5, 1.0))
CHORD_GRID = SampleGrid.spanning((-1, 1), (-18, 18), (-5, 5), step_mm=(0.5, 0.25, 1.0))

Line = FloatArray  # (2, 3) end points in LPS mm


@dataclass(frozen=True, eq=False)
class Length:
    """A measured length: mm, and where it was taken, (2, 3) LPS mm."""

    mm: float
    line: Line


@dataclass(frozen=True, eq=False)
class DiscMeasurement:
    """One disc's geometric measurements; None where the label map does not allow one.

    heights: "anterior", "middle", "posterior", each with its line from the lower to the upper endplate.
    canal_ap: from its anterior to its posterior end.
    """

    frame: DiscFrame
    depth_mm: float
    heights: dict[str, Length | None]
    mean_height_mm: float | None
    canal_ap: Length | None


def measure_disc(
    labels: LabelMap, affine: Affine, names: Neighbours, *, side_cut: bool = False
) -> DiscMeasurement:
    """Measure disc `names.disc` in a label map (Z, Y, X); see the module's docstring."""
    fitted = fit_frame(labels, affine, names, side_cut=side_cut)
    disc = soft_mask(labels, names.disc, affine, fitted.frame, HEIGHT_GRID).mean(axis=2)
    heights = {place: _height_at(disc, t, fitted) for place, t in HEIGHT_AT.items()}
    canal = _canal_chord(labels, affine, fitted.frame) if fitted.canal_found else None
    return DiscMeasurement(fitted.frame, fitted.depth_mm, heights, _mean_height(disc, fitted), canal)


def _columns(disc: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Per a column of the midsagittal mask (s, a): thickness in mm and middle in mm along e_s."""
    s = HEIGHT_GRID.coordinates(0)
    total = disc.sum(axis=0)
    middle = s @ disc / np.maximum(total, 1e-9)
    return total * HEIGHT_GRID.step_mm[0], middle


def _t_of_columns(fitted: FittedFrame) -> FloatArray:
    return np.asarray(HEIGHT_GRID.coordinates(1) / fitted.depth_mm + 0.5)


def _height_at(disc: FloatArray, t: float, fitted: FittedFrame) -> Length | None:
    """Height at fraction `t` with its line; None where the disc does not reach."""
    thickness, middle = _columns(disc)
    near = np.abs(_t_of_columns(fitted) - t) <= max(T_WINDOW, 0.75 / fitted.depth_mm)
    if not near.any() or float(np.median(thickness[near])) < MIN_HEIGHT_MM:
        return None
    mm, centre = float(np.median(thickness[near])), float(np.median(middle[near]))
    a = (t - 0.5) * fitted.depth_mm
    ends = [(centre - mm / 2, a, 0.0), (centre + mm / 2, a, 0.0)]
    return Length(mm, fitted.frame.to_lps(ends))


def _mean_height(disc: FloatArray, fitted: FittedFrame) -> float | None:
    t = _t_of_columns(fitted)
    inner = (t >= MEAN_RANGE[0]) & (t <= MEAN_RANGE[1])
    if not inner.any():
        return None
    mean = float(_columns(disc)[0][inner].mean())
    return mean if mean >= MIN_HEIGHT_MM else None


def _canal_chord(labels: LabelMap, affine: Affine, frame: DiscFrame) -> Length | None:
    """The canal's AP diameter behind the disc."""
    across = _canal_frame(
        soft_mask(labels, CANAL, affine, frame, CANAL_GRID, prolonged=True).mean(axis=2), frame
    )
    if across is None:
        return None
    canal = soft_mask(labels, CANAL, affine, across, CHORD_GRID, prolonged=True).mean(axis=0)
    chords, middles = _runs_through_middle(canal)
    mm = _midsagittal_chord(chords, CHORD_GRID.coordinates(2))
    if mm is None or mm < MIN_CANAL_AP_MM:
        return None
    middle = float(middles[len(middles) // 2])
    ends = [(0.0, middle + mm / 2, 0.0), (0.0, middle - mm / 2, 0.0)]
    return Length(mm, across.to_lps(ends))


def _canal_frame(canal: FloatArray, frame: DiscFrame) -> DiscFrame | None:
    """Frame on the canal's centre line in the disc's mid plane, e_s along the canal.

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


def _runs_through_middle(canal: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Per lateral offset: length in mm of the canal's run nearest the centre line, and its middle in mm.

    canal: (a, l) on `CHORD_GRID`.
    """
    a = CHORD_GRID.coordinates(1)
    lengths, middles = [], []
    for column in canal.T:
        kept = _nearest_run(column, a)
        total = float(kept.sum())
        lengths.append(total * CHORD_GRID.step_mm[1])
        middles.append(float(a @ kept) / total if total > 0 else 0.0)
    return np.array(lengths), np.array(middles)


def _nearest_run(column: FloatArray, a: FloatArray) -> FloatArray:
    """`column` with everything set to 0 but the connected non-zero run nearest to a = 0."""
    filled = np.flatnonzero(column > 0.02)
    if not len(filled):
        return np.zeros_like(column)
    runs = np.split(filled, np.flatnonzero(np.diff(filled) > 1) + 1)
    run = min(runs, key=lambda r: float(np.abs(a[r]).min()) - 1e-3 * len(r))
    kept = np.zeros_like(column)
    kept[run] = column[run]
    return kept


def _midsagittal_chord(chords: FloatArray, offsets_mm: FloatArray) -> float | None:
    """Chord at offset 0 from a parabola through the squared chords (an ellipse's are one)."""
    usable = chords > 0.6 * chords.max() if chords.max() > 0 else chords > 0
    if usable.sum() < 3:
        return float(chords.max()) if chords.max() > 0 else None
    at_middle = np.polyfit(offsets_mm[usable], chords[usable] ** 2, 2)[-1]
    return float(np.sqrt(max(float(at_middle), 0.0)))
