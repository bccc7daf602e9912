"""The three volumes that everything is measured on, and larger and finer ones of the same look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from load.volumes import phantom

from spine_export.images import read_volume
from spinecore.geometry import Volume
from spinecore.phantom import SMALL_LUMBAR, PhantomConfig

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real MR images beside the checkout; what needs them is left out, and said so, where they are missing."""
REAL = {
    "lumbar_t2": "lumbar_t2/t2_lumbar.nii.gz",
    "cervical_t2": "cervical_t2/t2_cervicothoracic.nii.gz",
}
PHANTOM, SMALL = "phantom", "small"
VOLUMES = (*REAL, PHANTOM)
_PHANTOM = PhantomConfig(
    seed=900_017,
    region="lumbar",
    contrast="t2",
    spacing_mm=(4.4, 0.6, 0.6),
    orientation="PIR",
    fov_mm=(307.2, 307.2, 74.8),
)
"""512 × 512 × 17 voxels of 0.6 × 0.6 × 4.4 mm: what a lumbar examination sends."""
_PHANTOMS = {PHANTOM: _PHANTOM, SMALL: SMALL_LUMBAR}


class MissingImageError(FileNotFoundError):
    """A real image that is not on this machine."""


def load(name: str, *, cache: Path) -> Volume:
    """One of `VOLUMES`, or ``small``, a lumbar phantom that one patch covers: voxels (1, Z, Y, X) as stored.

    Phantoms are drawn once and kept in `cache`. MissingImageError where a real image is not there.
    """
    if name in _PHANTOMS:
        drawn = phantom(_PHANTOMS[name], cache)
        return Volume(drawn.voxels[None], drawn.affine)
    path = DATA / REAL[name]
    if not path.is_file():
        raise MissingImageError(f"{name} is not on this machine (it is looked for at ../shared/data)")
    return read_volume([path])


def larger(volume: Volume, times: int) -> Volume:
    """`volume` with `times` (1, 2, 4 or 8) as many voxels: the field of view doubled axis by axis, mirrored.

    Its axes are doubled in the order y, x, z, so that sagittal slices grow before there are more of them.
    """
    voxels = volume.voxels
    for axis in _doubled(times, order=(2, 3, 1)):
        voxels = np.concatenate([voxels, np.flip(voxels, axis)], axis)
    return Volume(np.ascontiguousarray(voxels), volume.affine)


def finer(volume: Volume, times: int) -> Volume:
    """`volume` with `times` (1, 2, 4 or 8) as many voxels in the same field of view, each doubled."""
    voxels, affine = volume.voxels, volume.affine.copy()
    for axis in _doubled(times, order=(2, 3, 1)):
        voxels = np.repeat(voxels, 2, axis)
        column = 3 - axis  # array axes 1, 2, 3 are z, y, x; affine columns 0, 1, 2 are x, y, z
        affine[:3, column] /= 2.0
        affine[:3, 3] -= affine[:3, column] / 2.0  # the first voxel's corner stays where it was
    return Volume(np.ascontiguousarray(voxels), affine)


def _doubled(times: int, *, order: tuple[int, int, int]) -> tuple[int, ...]:
    if times not in (1, 2, 4, 8):
        raise ValueError(f"a volume can grow 1, 2, 4 or 8 times, not {times}")
    return order[: times.bit_length() - 1]
