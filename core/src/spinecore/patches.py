"""What the measurement CNN sees of one disc: a patch around it and one around the canal behind it.

Both lie along the disc's own frame; axes are (channel, e_s, e_a, e_l), 64 x 64 x 32 voxels. Channels 0 to 3
are the disc's patch, voxels of 0.65 x 0.9 x 1 mm: finest where heights are read, and long enough for a lumbar
disc and the canal; its centre is the disc's centre moved 8 mm posteriorly. Channels 4 to 7 are the canal's,
0.65 x 0.5 x 1 mm: finest along the diameter; its centre is the centroid of the canal's mask beside the disc.
Of each four: the image, z-scored over the part of the patch inside the volume (0 outside); vertebral bodies
with C2 and sacrum; this disc alone; canal. Masks are linearly interpolated, 0..1. Training and serving both
call `extract_patch`, so they cannot drift apart.
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
PATCH_CHANNELS = 8
DISC_SPACING_MM = (0.65, 0.9, 1.0)
CANAL_SPACING_MM = (0.65, 0.5, 1.0)
POSTERIOR_SHIFT_MM = 8.0
CANAL_BEHIND_MM = 20.0  # of the disc's centre, where there is no canal in its patch
BONE_CLASSES = (Class.BODY, Class.SACRUM, Class.C2)
_BESIDE_MM = (3.0, 8.0)  # along e_s and e_l: the canal behind the disc, not its curve or its roots
_CANAL_CHANNEL = 3

FloatPatch = NDArray[np.float32]


def _grid(spacing_mm: tuple[float, float, float], a_mm: float, l_mm: float = 0.0) -> SampleGrid:
    """Grid of PATCH_SHAPE around the frame's (0, a_mm, l_mm)."""
    sides = zip((0.0, a_mm, l_mm), PATCH_SHAPE, spacing_mm, strict=True)
    s, a, left = (centre - (count - 1) / 2 * step for centre, count, step in sides)
    return SampleGrid(first_mm=(s, a, left), step_mm=spacing_mm, shape=PATCH_SHAPE)


DISC_GRID = _grid(DISC_SPACING_MM, -POSTERIOR_SHIFT_MM)
_STD_FLOOR = 1e-6


DESCRIPTION: Mapping[str, Any] = {
    "patch_spacing_mm": list(DISC_SPACING_MM),
    "posterior_shift_mm": POSTERIOR_SHIFT_MM,
    "canal_spacing_mm": list(CANAL_SPACING_MM),
}
"""How patches are cut, as ``measure.json`` tells it."""


def check_description(description: Mapping[str, Any]) -> None:
    """ModelError if the CNN of a ``measure.json`` was trained on patches that are cut otherwise."""
    ours = DESCRIPTION
    theirs = {key: description.get(key) for key in ours}
    if theirs != ours:
        raise ModelError(
            f"The measurement network was trained on other patches ({_told(theirs)}) than this version cuts "
            f"({_told(ours)}), and it would measure wrongly. "
            "Train it again (spine-train measure), or serve it with the version it was trained by."
        )


def _told(description: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in description.items())


def extract_patch(
    image: NDArray[np.float32],
    classes: NDArray[np.uint8],
    disc_mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    frame: DiscFrame,
) -> FloatPatch:
    """The (8, 64, 64, 32) float32 patches of one disc; channels and axes as in the module's docstring.

    image, classes (`labels.Class` values) and disc_mask (this disc only) are (Z, Y, X) on one grid; `affine`
    (4, 4) maps its voxel index (x, y, z, 1) to LPS mm. Any orientation and spacing will do.
    """

    def on(grid: SampleGrid) -> FloatPatch:
        part = grid.window(classes.shape, affine, frame)
        moved = crop_affine(affine, part)
        here = classes[part]
        masks = (np.isin(here, BONE_CLASSES), disc_mask[part], here == Class.CANAL)
        sampled = [grid.sample(mask, moved, frame) for mask in masks]
        picture = grid.sample(image[part], moved, frame, outside=float("nan"))
        return np.stack([_zscored(picture), *sampled])

    disc = on(DISC_GRID)
    return np.concatenate([disc, on(_canal_grid(disc[_CANAL_CHANNEL]))])


def _canal_grid(canal: FloatPatch) -> SampleGrid:
    """Around the centroid of the canal (64, 64, 32) of the disc's patch, where that is beside the disc."""
    s, a, left = (DISC_GRID.coordinates(axis) for axis in range(3))
    along, aside = (np.abs(mm) <= reach for mm, reach in zip((s, left), _BESIDE_MM, strict=True))
    beside = canal[along][:, :, aside].sum(axis=0)
    total = beside.sum()
    if total < 1:
        return _grid(CANAL_SPACING_MM, -CANAL_BEHIND_MM)
    centre = (beside.sum(axis=1) @ a / total, beside.sum(axis=0) @ left[aside] / total)
    return _grid(CANAL_SPACING_MM, float(centre[0]), float(centre[1]))


def _zscored(picture: FloatPatch) -> FloatPatch:
    """Z-score over the finite voxels; 0 where the patch leaves the volume and where all is constant."""
    inside = np.isfinite(picture)
    if not inside.any():
        return np.zeros_like(picture)
    values = picture[inside]
    scaled = (picture - values.mean()) / max(float(values.std()), _STD_FLOOR)
    return np.where(inside, scaled, 0.0).astype(np.float32)
