"""Random changes to patches while training: masks as networks predict them, images as scanners vary."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WOBBLE_GRID = (9, 9, 5)  # control points of the field that moves mask borders
WOBBLE = 0.25
BORDER_SHIFT = 0.15  # of the mask value; about half a voxel with the blur below
SHARPNESS = (1.0, 4.0)
LOST_MASK = 0.01
SMOOTHED_CANAL = 0.75  # share of samples whose canal is evened out along itself, as networks do
SMOOTHED_VOXELS = (13, 25, 47)  # odd: the length smoothed over, along e_s (9 to 31 mm)
UNCHANGED = 0.3
NOISE = 0.15
GAMMA = 0.25


def perturb(images: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 4, 64, 64, 32) of z-scored images (N, 64, 64, 32) and masks 0..1 (N, 3, 64, 64, 32).

    The first UNCHANGED share of a batch stays as it is: batch norm must know what it will serve on.
    """
    kept = round(len(images) * UNCHANGED)
    as_they_are = torch.cat([images[:kept, None], masks[:kept]], dim=1)
    changed = torch.cat([_image(images[kept:], generator)[:, None], _masks(masks[kept:], generator)], dim=1)
    return torch.cat([as_they_are, changed])


def _image(images: Tensor, generator: torch.Generator) -> Tensor:
    count = len(images)
    low = images.amin(dim=(1, 2, 3), keepdim=True)
    span = (images.amax(dim=(1, 2, 3), keepdim=True) - low).clamp_min(1e-3)
    gamma = torch.exp(_uniform((count, 1, 1, 1), GAMMA, generator))
    changed = ((images - low) / span) ** gamma
    noise = torch.rand((count, 1, 1, 1), generator=generator) * NOISE
    mean, std = (
        changed.mean(dim=(1, 2, 3), keepdim=True),
        changed.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6),
    )
    return (changed - mean) / std + noise * torch.randn(images.shape, generator=generator)


def _masks(masks: Tensor, generator: torch.Generator) -> Tensor:
    count = len(masks)
    masks = _canal_smoothed(masks, generator)
    smooth = masks
    for axis in (2, 3, 4):
        smooth = _mean_along(smooth, axis, 3)
    share = torch.rand((count, 1, 1, 1, 1), generator=generator)
    softened = masks + share * (smooth - masks)
    field = (
        torch.randn((count, 3, *WOBBLE_GRID), generator=generator)
        * WOBBLE
        * torch.rand(1, generator=generator)
    )
    wobble = functional.interpolate(field, size=masks.shape[2:], mode="trilinear", align_corners=True)
    shift = _uniform((count, 3, 1, 1, 1), BORDER_SHIFT, generator)
    low, high = SHARPNESS
    sharpness = low + (high - low) * torch.rand((count, 1, 1, 1, 1), generator=generator)
    border = ((softened > 0.02) & (softened < 0.98)).float()
    moved = ((softened - 0.5 + (shift + wobble) * border) * sharpness + 0.5).clamp(0.0, 1.0)
    kept = (torch.rand((count, 3, 1, 1, 1), generator=generator) > LOST_MASK).float()
    return moved * kept


def _canal_smoothed(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Masks (N, 3, 64, 64, 32) with the canal's narrow and wide places evened out in some of the samples."""
    length = SMOOTHED_VOXELS[int(torch.randint(len(SMOOTHED_VOXELS), (1,), generator=generator))]
    canal = masks[:, 2:]
    evened = ((_mean_along(canal, 2, length) - 0.5) * 4.0 + 0.5).clamp(0.0, 1.0)
    chosen = torch.rand((len(masks), 1, 1, 1, 1), generator=generator) < SMOOTHED_CANAL
    return torch.cat([masks[:, :2], torch.where(chosen, evened, canal)], dim=1)


def _mean_along(masks: Tensor, axis: int, length: int) -> Tensor:
    """Running mean over an odd `length` of voxels along one axis, zeros outside; faster than avg_pool3d."""
    total = masks.clone()
    size = masks.shape[axis]
    for step in range(1, length // 2 + 1):
        total.narrow(axis, step, size - step).add_(masks.narrow(axis, 0, size - step))
        total.narrow(axis, 0, size - step).add_(masks.narrow(axis, step, size - step))
    return total / length


def _uniform(shape: tuple[int, ...], reach: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * reach
