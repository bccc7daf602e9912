"""The cases of the parity table: one for every kind of model that nnU-Net trains in 3-D, and their images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from spine_export.images import Image, image_of, read_volume
from spine_export.parity.results import CLASSES, REGIONS, Kind
from spinecore.geometry import Volume
from spinecore.network_spec import NetworkSpec
from spinecore.phantom import SMALL_LUMBAR, make_phantom

DATA = Path(__file__).resolve().parents[5] / "shared" / "data"
"""Real MR images beside a checkout; the table does without where they are missing."""
MR_IMAGES = {
    "lumbar T2": "lumbar_t2/t2_lumbar.nii.gz",
    "cervical T2": "cervical_t2/t2_cervicothoracic.nii.gz",
}
_CROP = (96, 96, 96)
_CUBE = (24, 24, 24)


@dataclass(frozen=True)
class Case:
    """One results folder; `mirror` exports it with mirroring on, `step_size` with other tiles.

    `untrained` leaves its weights random, full of near-ties.
    """

    kind: Kind
    mirror: bool = False
    step_size: float = 0.5
    precisions: tuple[str, ...] = ("fp32", "fp16")
    untrained: bool = False


CASES = {
    "isotropic": Case(Kind(patch=_CUBE), precisions=("fp32", "fp16", "int8")),
    "anisotropic, transposed, 2 channels": Case(
        Kind(
            spacing=(4.0, 1.2, 1.2),
            patch=(8, 40, 40),
            transpose=(2, 0, 1),
            normalization=("ZScoreNormalization", "CTNormalization"),
            use_mask=(True, False),
        ),
        precisions=("fp32", "fp16", "int8"),
    ),
    "regions": Case(Kind(patch=_CUBE, labels=REGIONS, regions_class_order=(1, 2, 3))),
    "residual encoder": Case(Kind(patch=_CUBE, residual=True)),
    "two folds": Case(Kind(patch=_CUBE, folds=2)),
    "mirroring": Case(Kind(patch=_CUBE, mirror_axes=(0, 2)), mirror=True, step_size=0.7),
    "ignore label, other schemes": Case(
        Kind(
            patch=_CUBE,
            labels={**CLASSES, "ignore": 4},
            normalization=("RescaleTo01Normalization", "NoNormalization"),
            use_mask=(False, False),
        )
    ),
    "torch resampling, reorienting reader": Case(
        Kind(
            patch=_CUBE,
            torch_resampling=True,
            reader="NibabelIOWithReorient",
            spacing=(1.5, 2.0, 2.5),
        )
    ),
    "3d_lowres, transposed, 3 channels": Case(
        Kind(
            configuration="3d_lowres",
            spacing=(2.5, 2.0, 3.0),
            patch=(16, 28, 20),
            transpose=(1, 2, 0),
            normalization=("ZScoreNormalization", "RescaleTo01Normalization", "CTNormalization"),
            use_mask=(False, False, True),
        )
    ),
    "two folds, regions, mirroring, random weights": Case(
        Kind(
            patch=_CUBE,
            labels=REGIONS,
            regions_class_order=(1, 2, 3),
            folds=2,
            mirror_axes=(0, 2),
        ),
        mirror=True,
        step_size=0.8,
        precisions=("fp32",),
        untrained=True,
    ),
}


def parity_images(spec: NetworkSpec, *, crop: bool = True) -> list[Image]:
    """A phantom, and the MR images where they are there, with as many channels as the network takes."""
    volumes = {"phantom": _phantom()}
    for name, place in MR_IMAGES.items():
        if (DATA / place).is_file():
            volumes[name] = _mr_image(DATA / place, crop=crop)
    return [image_of(_with_channels(volume, spec), spec, name) for name, volume in volumes.items()]


def _phantom() -> Volume:
    phantom = make_phantom(SMALL_LUMBAR)
    return Volume(phantom.image[None], phantom.affine)


def _mr_image(path: Path, *, crop: bool) -> Volume:
    """An MR image as stored; with `crop` the middle of it."""
    stored = read_volume([path])
    if not crop:
        return stored
    shape = stored.shape_zyx
    starts = [max(0, (n - most) // 2) for n, most in zip(shape, _CROP, strict=True)]
    z, y, x = (slice(start, start + most) for start, most in zip(starts, _CROP, strict=True))
    affine = stored.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array(starts[::-1])
    return Volume(np.ascontiguousarray(stored.voxels[:, z, y, x]), affine)


def _with_channels(volume: Volume, spec: NetworkSpec) -> Volume:
    """The image, and for further channels smoother ones of it."""
    first = volume.voxels[0].astype(np.float32)
    more = [ndimage.gaussian_filter(first, 0.7 * n) for n in range(1, len(spec.channels))]
    return Volume(np.stack([first, *more]), volume.affine)
