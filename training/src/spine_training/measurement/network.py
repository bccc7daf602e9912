"""The paper's 3D CNN, once for the disc's height and once for the canal.

Each of the two is five blocks of convolution, batch norm, ReLU and max-pooling, then a hidden layer and the
values, and sees its own patch. The paper's one CNN has both heads and one patch; so built, each gained only
at the other's expense (README).

Input (N, 8, 64, 64, 32) float32 as `spinecore.patches.extract_patch` makes it; outputs in mm: disc height
(N, 4) anterior, middle, posterior, mean; canal AP diameter (N, 1). The targets' mean and standard deviation
are buffers, so the loss is on standardised targets and the output still reads in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spinecore.patches import PATCH_CHANNELS

CHANNELS = PATCH_CHANNELS // 2  # of each of a disc's two patches
FEATURES = (8, 16, 32, 64, 128)
HIDDEN = 128
DROPOUT = 0.3
HEIGHTS = ("anterior", "middle", "posterior", "mean")
TARGETS = (*(f"disc_height_{name}" for name in HEIGHTS), "canal_ap")


class Part(NamedTuple):
    """Which of the two patches of a disc one part of the network sees, and which of TARGETS it answers."""

    patch: int
    targets: slice


PARTS = {"disc_height": Part(0, slice(0, 4)), "canal_ap": Part(1, slice(4, 5))}


class MeasurementNet(nn.Module):
    """A `Regressor` for each of `PARTS`; their answers in mm."""

    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self, *, target_mean: Sequence[float] = (0.0,) * 5, target_std: Sequence[float] = (1.0,) * 5
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(
            {name: Regressor(len(TARGETS[part.targets])) for name, part in PARTS.items()}
        )
        self.register_buffer("target_mean", torch.tensor(target_mean, dtype=torch.float32))
        self.register_buffer("target_std", torch.tensor(target_std, dtype=torch.float32))

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Disc height (N, 4) mm and canal AP diameter (N, 1) mm of patches (N, 8, 64, 64, 32)."""
        seen = patches.chunk(2, dim=1)
        height, canal = (
            self.parts[name](seen[part.patch]) * self.target_std[part.targets]
            + self.target_mean[part.targets]
            for name, part in PARTS.items()
        )
        return height, canal


class Regressor(nn.Module):
    """3x3x3 convolutions of stride 1, batch norm, ReLU, 2x2x2 max-pooling, five times; dropout 0.3.

    Patches (N, 4, 64, 64, 32) to (N, values), in units of the values' spread over the training set.
    """

    def __init__(self, values: int) -> None:
        super().__init__()
        channels = (CHANNELS, *FEATURES)
        self.blocks = nn.Sequential(*(_block(i, o) for i, o in pairwise(channels)))
        reduced = FEATURES[-1] * 2 * 2 * 1  # 64, 64, 32 halved five times
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Dropout(DROPOUT), nn.Linear(reduced, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT)
        )
        self.values = nn.Linear(HIDDEN, values)

    def forward(self, patches: Tensor) -> Tensor:
        """(N, values) of patches (N, 4, 64, 64, 32)."""
        found: Tensor = self.values(self.hidden(self.blocks(patches)))
        return found


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel_size=3, stride=1, padding=1),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool3d(2),
    )
