"""A disc's mean signal relative to the cerebrospinal fluid beside it, where that fluid is bright.

Definition: mean of the image over the disc's voxels in the midsagittal slices, divided by the signal of the
fluid in the canal of the same slices within ±20 mm along the spine, so that a coil's fading along the body
hardly matters. Its fading from back to front does, and is not corrected.

The canal's label holds fluid, cord and roots. Its voxels (the outermost layer left out) are divided into a
bright and a dark part; if the two differ clearly the median of the bright part is the fluid, otherwise the
median of all. In T1-weighted images fluid is dark, and the bright part may be the cord. Hence what is taken
for fluid must be brighter than the disc and than the marrow of the neighbouring bodies, and if it is not much
brighter than marrow it must not lie deeper in the canal than the dark part, as a cord does; or there is no
value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinecore.disc_frame import DiscFrame
from spinecore.frame_fit import FloatArray, LabelMap, Neighbours
from spinecore.geometry import Affine, AnyArray, index_to_lps, spacing_zyx
from spinecore.labels import CANAL
from spinecore.reformat import SampleGrid, crop_affine

MIDSAGITTAL_MM = 3.0  # voxels this near to the midsagittal plane, or within 0.6 slices of it
FLUID_REACH_MM = 20.0
MIN_FLUID_VOXELS = 30
MIN_DISC_VOXELS = 12
CLEAR_RATIO = 1.3  # bright over dark part of the canal: two tissues
OVER_MARROW = 1.2  # fluid over marrow in an image with bright fluid
SURELY_OVER_MARROW = 1.8  # from here on no cord in a T1-weighted image

NO_FLUID = "csf_not_found"
DARK_FLUID = "csf_not_brighter"
CUT_DISC = "disc_incomplete"

_BOX = SampleGrid.spanning((-24, 24), (-60, 32), (-8, 8), step_mm=(48, 92, 16))
_ROUNDS = 20
_OUTER_VOXELS = 1.2  # in the sagittal plane; so deep lies the second layer from the wall


@dataclass(frozen=True)
class DiscSignal:
    """Disc over fluid, or None and the code of the reason why not."""

    value: float | None
    reason: str | None = None


def disc_signal(
    image: AnyArray, labels: LabelMap, affine: Affine, names: Neighbours, frame: DiscFrame
) -> DiscSignal:
    """Signal of disc `names.disc` relative to fluid; image and labels (Z, Y, X), `frame` the disc's."""
    window = _BOX.window(labels.shape, affine, frame)
    here, values = labels[window], np.asarray(image[window], np.float64)
    place = frame.from_lps(_centres(here.shape, crop_affine(affine, window)))
    lateral = spacing_zyx(affine)[_lateral_axis(affine)]
    middle = np.abs(place[..., 2]) <= max(MIDSAGITTAL_MM, 0.6 * lateral)
    disc = values[middle & (here == names.disc)]
    depth = _depth_mm(here == CANAL, affine)
    canal = (
        middle & (np.abs(place[..., 0]) <= FLUID_REACH_MM) & (depth > _OUTER_VOXELS * _in_plane_mm(affine))
    )
    fluid = _fluid(values[canal], depth[canal])
    if fluid is None or len(disc) < MIN_DISC_VOXELS:
        return DiscSignal(None, NO_FLUID)
    marrow = values[middle & np.isin(here, [n for n in (names.upper, names.lower) if n is not None])]
    signal, central = fluid
    over = signal / max(float(np.median(marrow)), 1e-9) if len(marrow) else 0.0
    bright = over >= (SURELY_OVER_MARROW if central else OVER_MARROW)
    if not bright or signal <= float(disc.mean()):
        return DiscSignal(None, DARK_FLUID)
    return DiscSignal(float(disc.mean()) / signal)


def fluid_is_dark(discs: Iterable[Mapping[str, Any]]) -> bool:
    """Whether an image shows dark fluid, as T1 does, by the ``signal_to_csf`` of its discs' entries.

    The majority of the discs that tell decides; bright where none does.
    """
    signals = [disc["signal_to_csf"] for disc in discs if "signal_to_csf" in disc]
    dark = [signal for signal in signals if signal["reason"] == DARK_FLUID]
    bright = [signal for signal in signals if signal["value"] is not None]
    return len(dark) > len(bright)


def _centres(shape: tuple[int, ...], affine: Affine) -> FloatArray:
    """(Z, Y, X, 3) LPS mm of a grid's voxel centres."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")[::-1], axis=-1)
    return index_to_lps(affine, index)


def _lateral_axis(affine: Affine) -> int:
    """Array axis (of Z, Y, X) that runs most to the patient's side."""
    return 2 - int(np.argmax(np.abs(affine[0, :3]) / np.linalg.norm(affine[:3, :3], axis=0)))


def _in_plane_mm(affine: Affine) -> float:
    """The larger voxel side within the sagittal planes."""
    return max(mm for axis, mm in enumerate(spacing_zyx(affine)) if axis != _lateral_axis(affine))


def _depth_mm(canal: NDArray[np.bool_], affine: Affine) -> FloatArray:
    """Distance in mm of each voxel of `canal` from its wall within the sagittal planes."""
    steps = list(spacing_zyx(affine))
    steps[_lateral_axis(affine)] = 1e4  # never the nearest
    return np.asarray(ndimage.distance_transform_edt(canal, sampling=steps))


def _fluid(inside: FloatArray, depth_mm: FloatArray) -> tuple[float, bool] | None:
    """Signal of the fluid among the canal's voxels (N,), and whether it lies deeper than the rest.

    None where there are too few voxels or all are dark.
    """
    if len(inside) < MIN_FLUID_VOXELS or inside.max() <= 0:
        return None
    limit = float(inside.mean())
    for _ in range(_ROUNDS):
        above = inside > limit
        if not above.any() or above.all():
            return float(np.median(inside)), False
        limit = float(inside[above].mean() + inside[~above].mean()) / 2
    above = inside > limit
    bright, dark = inside[above], inside[~above]
    if not len(bright) or not len(dark) or bright.mean() < CLEAR_RATIO * max(float(dark.mean()), 0.0):
        return float(np.median(inside)), False
    return float(np.median(bright)), bool(depth_mm[above].mean() > depth_mm[~above].mean())
