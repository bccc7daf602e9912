"""The patch the measurement CNN sees: one disc and the canal behind it, in the disc's own frame.

Patch axes are (channel, e_s, e_a, e_l), 4 x 64 x 64 x 32 voxels of 0.65 x 0.9 x 1 mm: finest where heights
are read, and long enough for a lumbar disc and the canal. The patch's centre is the disc's centre moved 8 mm
posteriorly. Channels: 0 image, z-scored over the part of the patch inside the volume
(0 outside); 1 vertebral bodies with C2 and sacrum; 2 this disc alone; 3 canal. Masks are linearly
interpolated, 0..1. Training and serving both call `extract_patch`, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinecore.disc_frame import DiscFrame
from spinecore.errors import ModelError
from spinecore.labels import Class
from spinecore.reformat import SampleGrid, crop_affine

PATCH_SHAPE = (64, 64, 32)
PATCH_CHANNELS = 4
PATCH_SPACING_MM = (0.65, 0.9, 1.0)
POSTERIOR_SHIFT_MM = 8.0
BONE_CLASSES = (Class.BODY, Class.SACRUM, Class.C2)


def _first_mm(axis: int, shift: float = 0.0) -> float:
    return -(PATCH_SHAPE[axis] - 1) / 2 * PATCH_SPACING_MM[axis] - shift


PATCH_GRID = SampleGrid(
    first_mm=(_first_mm(0), _first_mm(1, POSTERIOR_SHIFT_MM), _first_mm(2)),
    step_mm=PATCH_SPACING_MM,
    shape=PATCH_SHAPE,
)
_STD_FLOOR = 1e-6

FloatPatch = NDArray[np.float32]


def check_description(description: Mapping[str, Any]) -> None:
    """ModelError if the CNN of a ``measure.json`` was trained on patches that are cut otherwise."""
    ours = (list(PATCH_SPACING_MM), POSTERIOR_SHIFT_MM)
    theirs = (description.get("patch_spacing_mm"), description.get("posterior_shift_mm"))
    if theirs != ours:
        raise ModelError(
            f"The measurement network was trained on patches of voxels of {theirs[0]} mm, moved {theirs[1]} "
            f"mm posteriorly; this version cuts {ours[0]} mm and {ours[1]} mm, and it would measure wrongly. "
            "Train it again (spine-train measure), or serve it with the version it was trained by."
        )


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
