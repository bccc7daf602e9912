"""NIfTI in and out. The only file that knows NIfTI's RAS frame: it is turned to LPS here, at the door."""

from __future__ import annotations

import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from spine_client.errors import InputError, MissingExtra
from spine_client.notices import Notice, notice
from spine_client.volume import Volume

SUFFIXES = (".nii", ".nii.gz")
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_AFFINE_MM = 0.05
"""sform and qform that place every voxel corner within this distance count as the same."""


def is_nifti(path: Path) -> bool:
    """Whether the file name says NIfTI."""
    return path.name.lower().endswith(SUFFIXES)


def read_nifti(path: Path) -> Volume:
    """Read a 3-D NIfTI file.

    The sform places the voxels if its code is set, else the qform; with both unset the orientation is unknown
    and `InputError` ``"no_orientation"`` is raised. Both set and different gives a notice.
    """
    nibabel = _nibabel("Reading NIfTI")
    try:
        image = nibabel.load(path)
        voxels = np.asanyarray(image.dataobj)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError, zlib.error):
        raise InputError("damaged_file", "the NIfTI file is damaged or not NIfTI", files=[path]) from None
    affine_ras, notices = _choose_affine(image.header, voxels.shape)
    return Volume(_to_zyx(voxels), _RAS_TO_LPS @ affine_ras, tuple(notices))


def write_nifti(path: Path, voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> None:
    """Write `voxels` (Z, Y, X) with `affine` (x, y, z → LPS mm); sform and qform both say scanner space."""
    nibabel = _nibabel("Writing NIfTI")
    affine_ras = _RAS_TO_LPS @ affine
    image = nibabel.Nifti1Image(np.ascontiguousarray(voxels.transpose(2, 1, 0)), affine_ras)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine_ras, code=1)
    image.set_qform(affine_ras, code=1)
    nibabel.save(image, path)


def _nibabel(feature: str) -> ModuleType:
    try:
        import nibabel
    except ImportError as error:
        raise MissingExtra("nifti", feature) from error
    return nibabel


def _choose_affine(header: Any, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.float64], list[Notice]]:
    sform, sform_code = header.get_sform(coded=True)
    try:
        qform, qform_code = header.get_qform(coded=True)
    except ValueError:  # a quaternion longer than 1
        qform, qform_code = None, 0
    if not sform_code and not qform_code:
        raise InputError(
            "no_orientation",
            "neither sform nor qform is set, so nobody knows which way is up; set one of them first",
        )
    if not sform_code:
        return np.asarray(qform, dtype=np.float64), []
    notices = []
    if qform_code and _differ(sform, qform, shape):
        notices.append(notice("sform_qform_differ", "sform and qform disagree; the sform was used"))
    return np.asarray(sform, dtype=np.float64), notices


def _differ(one: npt.NDArray[Any], other: npt.NDArray[Any], shape: tuple[int, ...]) -> bool:
    corners = np.array([[x, y, z, 1] for x in (0, shape[0]) for y in (0, shape[1]) for z in (0, shape[2])])
    return bool(np.linalg.norm(corners @ (one - other).T, axis=1).max() > _SAME_AFFINE_MM)


def _to_zyx(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if voxels.ndim > 3 and voxels.shape[3:] == (1,) * (voxels.ndim - 3):
        voxels = voxels.reshape(voxels.shape[:3])
    if voxels.ndim != 3:
        raise InputError("not_3d", f"expected one 3-D image, got axes {voxels.shape}; give one volume")
    return voxels.transpose(2, 1, 0)
