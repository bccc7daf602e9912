"""nnU-Net's augmentation, cheap enough for two cores and mild enough to keep a spine a spine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

ROTATION_RAD = math.radians(12.0)
SCALING = (0.85, 1.2)
NOISE_FLOOR_VARIANCE = (1e-4, 1e-3)
SHORTENED = 0.3
"""Share of patches that end as a short image does. Phantoms are mostly longer than a patch: without it the
network never saw padding above and below, and lost the canal in the last rows of short images."""
KEPT = (0.3, 0.95)
_SPATIAL_PROBABILITY = 0.15


class Shorten(BasicTransform):  # type: ignore[misc]
    """Leave a slab of the patch, `KEPT` of one random axis; beyond it what nnU-Net pads short images with.

    image (C, X, Y, Z) becomes 0 there, which is the image's mean after z-score, and segmentation -1, which is
    nnU-Net's number for "outside".
    """

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """Draw the axis, and how much of it stays and where."""
        shape = data_dict["image"].shape
        axis = int(np.random.randint(1, len(shape)))
        kept = round(shape[axis] * np.random.uniform(*KEPT))
        start = int(np.random.randint(0, shape[axis] - kept + 1))
        return {"axis": axis, "start": start, "stop": start + kept}

    def _apply_to_image(self, img: torch.Tensor, **params: Any) -> torch.Tensor:
        return _outside(img, 0, **params)

    def _apply_to_segmentation(self, segmentation: torch.Tensor, **params: Any) -> torch.Tensor:
        return _outside(segmentation, -1, **params)


def _outside(values: torch.Tensor, fill: int, *, axis: int, start: int, stop: int) -> torch.Tensor:
    shortened = torch.full_like(values, fill)
    shortened.narrow(axis, start, stop - start).copy_(values.narrow(axis, start, stop - start))
    return shortened


def initial_patch_size(patch_size: Any) -> Any:
    """Voxels (per axis) read before rotation and scaling, so that few corners stay empty."""
    return np.ceil(np.array(patch_size) * 1.15).astype(int)


def training_transforms(
    patch_size: Any, rotation: Any, deep_supervision_scales: Any, mirror_axes: Any
) -> Any:
    """Spatial, intensity and mirroring transforms of one training sample, in nnU-Net's order."""
    steps = [
        SpatialTransform(
            tuple(patch_size),
            patch_center_dist_from_border=0,
            random_crop=False,
            p_elastic_deform=0,
            p_rotation=_SPATIAL_PROBABILITY,
            rotation=rotation,
            p_scaling=_SPATIAL_PROBABILITY,
            scaling=SCALING,
            p_synchronize_scaling_across_axes=1,
            mode_seg="nearest",  # one resampling instead of one per label
            border_mode_seg="constant",
            padding_value_seg=-1,
        ),
        *_intensity_transforms(),
        _noise(NOISE_FLOOR_VARIANCE),  # no patch is constant: instance norm's gradient grows 300-fold on one
        RandomTransform(Shorten(), apply_probability=SHORTENED),  # after the noise: padding has none
        MirrorTransform(allowed_axes=mirror_axes),
        RemoveLabelTansform(-1, 0),
    ]
    if deep_supervision_scales is not None:
        steps.append(DownsampleSegForDSTransform(ds_scales=deep_supervision_scales))
    return ComposeTransforms(steps)


def _intensity_transforms() -> list[Any]:
    def gamma(*, inverted: bool) -> Any:
        return GammaTransform(
            gamma=BGContrast((0.7, 1.5)),
            p_invert_image=float(inverted),
            synchronize_channels=False,
            p_per_channel=1,
            p_retain_stats=1,
        )

    blur = GaussianBlurTransform(
        blur_sigma=(0.5, 1.0),
        synchronize_channels=False,
        synchronize_axes=False,
        p_per_channel=1,
        benchmark=False,
    )
    brightness = MultiplicativeBrightnessTransform(
        multiplier_range=BGContrast((0.75, 1.25)), synchronize_channels=False, p_per_channel=1
    )
    contrast = ContrastTransform(
        contrast_range=BGContrast((0.75, 1.25)),
        preserve_range=True,
        synchronize_channels=False,
        p_per_channel=1,
    )
    low_resolution = SimulateLowResolutionTransform(
        scale=(0.5, 1), synchronize_channels=False, synchronize_axes=True, ignore_axes=None,
        allowed_channels=None, p_per_channel=1,
    )  # fmt: skip
    chances = [
        (_noise((0.0, 0.1)), 0.1),
        (blur, 0.1),
        (brightness, 0.15),
        (contrast, 0.15),
        (low_resolution, 0.08),
        (gamma(inverted=True), 0.05),
        (gamma(inverted=False), 0.25),
    ]
    return [RandomTransform(transform, apply_probability=chance) for transform, chance in chances]


def _noise(variance: tuple[float, float]) -> Any:
    return GaussianNoiseTransform(noise_variance=variance, p_per_channel=1, synchronize_channels=True)
