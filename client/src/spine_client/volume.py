"""The volume that is sent: voxels with their geometry, nothing about the patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spine_client.errors import InputError
from spine_client.notices import Notice

if TYPE_CHECKING:
    from spine_client.dicom.frame import Frame

_SHEAR_TOLERANCE = 0.01
"""Largest cosine between two voxel axes that still counts as a right angle (0.6 degrees)."""


@dataclass(frozen=True, eq=False)
class Volume:
    """One MR volume.

    Attributes
    ----------
    voxels : (Z, Y, X) array of int16, uint16 or float32; (C, Z, Y, X) for several channels.
    affine : (4, 4) float64, voxel index (x, y, z, 1) → LPS millimetres. Note the order: x is the *last* axis
        of `voxels`.
    notices : what reading the source brought to light.
    frames : the DICOM images behind the slices, in their order; empty for other sources. They know their
        files, so they stay out of every repr.

    Any other real number type is converted at construction where that loses nothing that matters.
    """

    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    notices: tuple[Notice, ...] = ()
    frames: tuple[Frame, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        _check_affine(affine)
        voxels = _to_wire_dtype(np.asarray(self.voxels))
        _check_voxels(voxels)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "voxels", voxels)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Grid size along z, y, x."""
        z, y, x = self.voxels.shape[-3:]
        return int(z), int(y), int(x)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.voxels.shape[0]) if self.voxels.ndim == 4 else 1

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm along z, y, x."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def image(self) -> npt.NDArray[Any]:
        """First channel, (Z, Y, X): what is drawn under the results."""
        return self.voxels[0] if self.voxels.ndim == 4 else self.voxels


def _check_affine(affine: npt.NDArray[np.float64]) -> None:
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise InputError("affine", f"expected a finite 4×4 affine, got shape {affine.shape}")
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if (lengths <= 0).any() or not np.allclose(affine[3], (0, 0, 0, 1)):
        raise InputError("affine_singular", "the affine is singular, or its last row is not (0, 0, 0, 1)")
    cosines = (columns / lengths).T @ (columns / lengths) - np.eye(3)
    if np.abs(cosines).max() > _SHEAR_TOLERANCE:
        raise InputError(
            "affine_sheared", "the voxel axes are not at right angles; resample the volume first"
        )


def _to_wire_dtype(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert to int16, uint16 or float32, whichever holds the values."""
    if voxels.dtype.kind not in "iuf" or voxels.dtype.itemsize > 8:
        raise InputError("dtype", f"voxels must be real numbers, not {voxels.dtype.name}")
    if voxels.dtype.kind == "f":
        return _to_float32(voxels)
    if voxels.dtype in (np.int16, np.uint16):
        return voxels
    for dtype in (np.int16, np.uint16):
        limits = np.iinfo(dtype)
        if voxels.size and limits.min <= voxels.min() and voxels.max() <= limits.max:
            return voxels.astype(dtype)
    return voxels.astype(np.float32)


def _to_float32(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        converted = voxels.astype(np.float32, copy=False)
    if not np.isfinite(converted).all():
        raise InputError("not_finite", "the voxels hold NaN or infinite values; replace them first")
    return converted


def _check_voxels(voxels: npt.NDArray[Any]) -> None:
    if voxels.ndim not in (3, 4):
        raise InputError("shape", f"expected voxels (Z, Y, X) or (C, Z, Y, X), got {voxels.ndim} axes")
    if voxels.size == 0:
        raise InputError("shape", f"the volume is empty: shape {voxels.shape}")
    if min(voxels.shape[-3:]) < 2:
        raise InputError("single_slice", f"a volume needs at least 2 voxels along each axis: {voxels.shape}")
    if voxels.min() == voxels.max():
        raise InputError("constant_image", "all voxels have the same value: there is no image")
