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
Body frame
    The mid plane of a vertebral body: through its centre, across the line between the centres of the discs
    above and below it.
Canal AP diameter at a disc or a body, and the smallest of a level
    Of the canal label (the dural sac with its wall); see `spinecore.canal_ap`.

Estimates
---------
Masks are sampled linearly on fine grids in the frame, so that a length is an integral over partial values
rather than a count of voxels. Heights average ±2 mm to the sides and take the median over ±0.05 in t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinecore.canal_ap import CanalCourse, Length, measure_canal
from spinecore.disc_frame import DiscFrame
from spinecore.frame_fit import FittedFrame, FloatArray, LabelMap, Neighbours, fit_frame, soft_mask
from spinecore.geometry import Affine
from spinecore.reformat import SampleGrid

HEIGHT_AT: dict[str, float] = {"anterior": 0.85, "middle": 0.5, "posterior": 0.15}
MEAN_RANGE = (0.1, 0.9)
T_WINDOW = 0.05
MIN_HEIGHT_MM = 0.3

HEIGHT_GRID = SampleGrid.spanning((-16, 16), (-32, 32), (-2, 2), step_mm=(0.25, 0.5, 1.0))


@dataclass(frozen=True, eq=False)
class DiscMeasurement:
    """One disc's geometric measurements; None where the label map does not allow one.

    heights: "anterior", "middle", "posterior", each with its line from the lower to the upper endplate.
    canal: its course behind the disc.
    """

    frame: DiscFrame
    depth_mm: float
    heights: dict[str, Length | None]
    mean_height_mm: float | None
    canal: CanalCourse | None

    @property
    def canal_ap(self) -> Length | None:
        """The canal's AP diameter at the disc, from its anterior to its posterior end."""
        return self.canal.ap if self.canal is not None else None


def measure_disc(
    labels: LabelMap, affine: Affine, names: Neighbours, *, side_cut: bool = False
) -> DiscMeasurement:
    """Measure disc `names.disc` in a label map (Z, Y, X); see the module's docstring."""
    fitted = fit_frame(labels, affine, names, side_cut=side_cut)
    disc = soft_mask(labels, names.disc, affine, fitted.frame, HEIGHT_GRID).mean(axis=2)
    heights = {place: _height_at(disc, t, fitted) for place, t in HEIGHT_AT.items()}
    canal = measure_canal(labels, affine, fitted.frame) if fitted.canal_found else None
    return DiscMeasurement(fitted.frame, fitted.depth_mm, heights, _mean_height(disc, fitted), canal)


def body_frame(centre_mm: FloatArray, above: DiscFrame | None, below: DiscFrame | None) -> DiscFrame | None:
    """Mid plane of the vertebral body with its centre (3,) LPS mm between two discs; None without any disc.

    With one disc alone its middle gives the body's axis. The discs' midsagittal plane is the body's.
    """
    discs = [disc for disc in (above, below) if disc is not None]
    if not discs:
        return None
    upper = above.origin_mm if above is not None else centre_mm
    lower = below.origin_mm if below is not None else centre_mm
    forward = np.sum([disc.e_a for disc in discs], axis=0)
    frame = DiscFrame.from_axes(centre_mm, cranial=upper - lower, anterior=forward)
    aside = float(np.mean([frame.from_lps(disc.origin_mm)[2] for disc in discs]))
    return frame.moved((0.0, 0.0, aside))


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
