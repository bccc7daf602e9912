"""The patch the measurement CNN sees: one disc and the canal behind it, in the disc's own frame.

Patch axes are (channel, e_s, e_a, e_l), 4 x 64 x 64 x 32 voxels of 1 mm. The patch's centre is the disc's
centre moved 8 mm posteriorly. Channels: 0 image, z-scored over the part of the patch inside the volume
(0 outside); 1 vertebral bodies with C2 and sacrum; 2 this disc alone; 3 canal. Masks are linearly
interpolated, 0..1. Training and serving both call `extract_patch`, so they cannot drift apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spinecore.disc_frame import DiscFrame
from spinecore.labels import Class
from spinecore.reformat import SampleGrid, crop_affine

PATCH_SHAPE = (64, 64, 32)
PATCH_CHANNELS = 4
PATCH_SPACING_MM = 1.0
POSTERIOR_SHIFT_MM = 8.0
BONE_CLASSES = (Class.BODY, Class.SACRUM, Class.C2)
PATCH_GRID = SampleGrid(
    first_mm=(
        -(PATCH_SHAPE[0] - 1) / 2 * PATCH_SPACING_MM,
        -(PATCH_SHAPE[1] - 1) / 2 * PATCH_SPACING_MM - POSTERIOR_SHIFT_MM,
        -(PATCH_SHAPE[2] - 1) / 2 * PATCH_SPACING_MM,
    ),
    step_mm=(PATCH_SPACING_MM, PATCH_SPACING_MM, PATCH_SPACING_MM),
    shape=PATCH_SHAPE,
)
_STD_FLOOR = 1e-6

FloatPatch = NDArray[np.float32]


def extract_patch(
    image: NDArray[np.float32],
    classes: NDArray[np.uint8],
    disc_mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    frame: DiscFrame,
) -> FloatPatch:
    """The (4, 64, 64, 32) float32 patch of one disc; channels and axes as in the module's docstring.

    image, classes (`labels.Class` values) and disc_mask (this disc only) are (Z, Y, X) on one grid; `affine`
    (4, 4) maps its voxel index (x, y, z, 1) to LPS mm. Any orientation and spacing will do.
    """
    part = PATCH_GRID.window(classes.shape, affine, frame)
    moved = crop_affine(affine, part)
    here = classes[part]
    masks = (np.isin(here, BONE_CLASSES), disc_mask[part], here == Class.CANAL)
    sampled = [PATCH_GRID.sample(mask, moved, frame) for mask in masks]
    picture = PATCH_GRID.sample(image[part], moved, frame, outside=float("nan"))
    return np.stack([_zscored(picture), *sampled])


def _zscored(picture: FloatPatch) -> FloatPatch:
    """Z-score over the finite voxels; 0 where the patch leaves the volume and where all is constant."""
    inside = np.isfinite(picture)
    if not inside.any():
        return np.zeros_like(picture)
    values = picture[inside]
    scaled = (picture - values.mean()) / max(float(values.std()), _STD_FLOOR)
    return np.where(inside, scaled, 0.0).astype(np.float32)
