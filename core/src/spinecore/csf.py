"""A disc's mean signal relative to the cerebrospinal fluid beside it, where that fluid is bright.

Definition: mean of the image over the disc's voxels in the midsagittal slices, divided by the signal of the
fluid in the canal of the same slices within ±20 mm along the spine, so that a coil's fading along the body
hardly matters. Its fading from back to front does, and is not corrected.

The canal's label holds fluid, cord and roots. Its voxels (the outermost layer left out) are divided into a
bright and a dark part; if the two differ clearly the median of the bright part is the fluid, otherwise the
median of all. In T1-weighted images fluid is darker than marrow, so there the bright part is the cord: hence
fluid must be brighter than the marrow of the neighbouring bodies, and than the disc, or there is no value.
"""

from __future__ import annotations

from dataclasses import dataclass

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

NO_FLUID = "csf_not_found"
DARK_FLUID = "csf_not_brighter"
CUT_DISC = "disc_incomplete"

_BOX = SampleGrid.spanning((-24, 24), (-60, 32), (-8, 8), step_mm=(48, 92, 16))
_ROUNDS = 20


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
    fluid = _fluid(values, middle & (np.abs(place[..., 0]) <= FLUID_REACH_MM) & _inner(here == CANAL, affine))
    if fluid is None or len(disc) < MIN_DISC_VOXELS:
        return DiscSignal(None, NO_FLUID)
    marrow = values[middle & np.isin(here, [n for n in (names.upper, names.lower) if n is not None])]
    dark = len(marrow) == 0 or fluid < OVER_MARROW * float(np.median(marrow))
    if dark or fluid <= float(disc.mean()):
        return DiscSignal(None, DARK_FLUID)
    return DiscSignal(float(disc.mean()) / fluid)


def _centres(shape: tuple[int, ...], affine: Affine) -> FloatArray:
    """(Z, Y, X, 3) LPS mm of a grid's voxel centres."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")[::-1], axis=-1)
    return index_to_lps(affine, index)


def _lateral_axis(affine: Affine) -> int:
    """Array axis (of Z, Y, X) that runs most to the patient's side."""
    return 2 - int(np.argmax(np.abs(affine[0, :3]) / np.linalg.norm(affine[:3, :3], axis=0)))


def _inner(canal: NDArray[np.bool_], affine: Affine) -> NDArray[np.bool_]:
    """`canal` without its outermost voxels in the sagittal planes."""
    cross = ndimage.generate_binary_structure(3, 1)
    sides = np.moveaxis(cross, _lateral_axis(affine), 0)
    sides[0] = sides[2] = False
    return np.asarray(ndimage.binary_erosion(canal, cross, border_value=1))


def _fluid(values: FloatArray, canal: NDArray[np.bool_]) -> float | None:
    """Signal of the fluid among the voxels `canal`; None where there are too few or all is dark."""
    inside = values[canal]
    if len(inside) < MIN_FLUID_VOXELS or inside.max() <= 0:
        return None
    limit = float(inside.mean())
    for _ in range(_ROUNDS):
        above = inside > limit
        if not above.any() or above.all():
            return float(np.median(inside))
        limit = float(inside[above].mean() + inside[~above].mean()) / 2
    bright, dark = inside[inside > limit], inside[inside <= limit]
    two = len(bright) > 0 and bright.mean() >= CLEAR_RATIO * max(float(dark.mean()), 0.0)
    return float(np.median(bright if two else inside))
