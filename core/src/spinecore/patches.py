"""The patch the measurement CNN sees: one disc and the canal behind it, in the disc's own frame.

Patch axes are (channel, e_s, e_a, e_l), 4 x 64 x 64 x 32 voxels of 1 mm. The patch's centre is the disc's
centre moved 8 mm posteriorly. Channels: 0 image, z-scored over the part of the patch inside the volume
(0 outside); 1 vertebral bodies with C2 and sacrum; 2 this disc alone; 3 canal. Masks are linearly
interpolated, 0..1. Training and serving both call `extract_patch`, so they cannot drift apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinecore.disc_frame import DiscFrame
from spinecore.labels import Class

PATCH_SHAPE = (64, 64, 32)
PATCH_CHANNELS = 4
PATCH_SPACING_MM = 1.0
POSTERIOR_SHIFT_MM = 8.0
BONE_CLASSES = (Class.BODY, Class.SACRUM, Class.C2)
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
    matrix, offset = patch_to_voxel(affine, frame)
    window, offset = _covering_window(matrix, offset, image.shape)
    part = classes[window]
    masks = (np.isin(part, BONE_CLASSES), disc_mask[window], part == Class.CANAL)
    sampled = [_sample(np.asarray(mask, dtype=np.float32), matrix, offset, 0.0) for mask in masks]
    picture = _sample(np.asarray(image[window], dtype=np.float32), matrix, offset, np.nan)
    return np.stack([_zscored(picture), *sampled])


def patch_to_voxel(
    affine: NDArray[np.float64], frame: DiscFrame
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, 3) matrix and (3,) offset that take a patch index (s, a, l) to a voxel index (z, y, x)."""
    centre = frame.moved((0.0, -POSTERIOR_SHIFT_MM, 0.0))
    first = centre.to_lps([-(n - 1) / 2 * PATCH_SPACING_MM for n in PATCH_SHAPE])
    to_xyz = np.linalg.inv(affine)
    matrix = (to_xyz[:3, :3] @ frame.axes)[::-1] * PATCH_SPACING_MM
    offset = (to_xyz[:3, :3] @ first + to_xyz[:3, 3])[::-1]
    return np.ascontiguousarray(matrix), np.ascontiguousarray(offset)


def _covering_window(
    matrix: NDArray[np.float64], offset: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """Slices of the part of the volume the patch touches (at least one voxel), and the offset into it.

    A window's border inside the volume lies beyond the patch's reach, so cropping changes no sample.
    """
    reach = matrix * (np.array(PATCH_SHAPE) - 1)
    lowest = np.floor(offset + np.minimum(reach, 0).sum(axis=1)).astype(int) - 1
    highest = np.ceil(offset + np.maximum(reach, 0).sum(axis=1)).astype(int) + 2
    start = np.clip(lowest, 0, np.array(shape) - 1)
    stop = np.clip(highest, start + 1, shape)
    return tuple(slice(a, b) for a, b in zip(start, stop, strict=True)), offset - start


def _sample(
    volume: NDArray[np.float32], matrix: NDArray[np.float64], offset: NDArray[np.float64], outside: float
) -> FloatPatch:
    """Trilinear samples at every patch voxel; `outside` beyond the centres of the volume's outer voxels."""
    result: FloatPatch = ndimage.affine_transform(
        volume,
        matrix,
        offset=offset,
        output_shape=PATCH_SHAPE,
        output=np.float32,
        order=1,
        mode="constant",
        cval=outside,
    )
    return result


def _zscored(picture: FloatPatch) -> FloatPatch:
    """Z-score over the finite voxels; 0 where the patch leaves the volume and where all is constant."""
    inside = np.isfinite(picture)
    if not inside.any():
        return np.zeros_like(picture)
    values = picture[inside]
    scaled = (picture - values.mean()) / max(float(values.std()), _STD_FLOOR)
    return np.where(inside, scaled, 0.0).astype(np.float32)
