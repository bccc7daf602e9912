"""The paper's 3D CNN: five blocks of convolution, batch norm, ReLU and max-pooling, then two heads.

Input (N, 4, 64, 64, 32) float32 as `spinecore.patches.extract_patch` makes it; outputs in mm: disc height
(N, 4) anterior, middle, posterior, mean; canal AP diameter (N, 1). The targets' mean and standard deviation
are buffers, so the loss is on standardised targets and the output still reads in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

PATCH_SHAPE = (4, 64, 64, 32)
FEATURES = (8, 16, 32, 64, 128)
HIDDEN = 128
DROPOUT = 0.3
HEIGHTS = ("anterior", "middle", "posterior", "mean")
TARGETS = (*(f"disc_height_{name}" for name in HEIGHTS), "canal_ap")


class MeasurementNet(nn.Module):
    """3x3x3 convolutions of stride 1, batch norm, ReLU, 2x2x2 max-pooling, five times; dropout 0.3."""

    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self, *, target_mean: Sequence[float] = (0.0,) * 5, target_std: Sequence[float] = (1.0,) * 5
    ) -> None:
        super().__init__()
        channels = (PATCH_SHAPE[0], *FEATURES)
        self.blocks = nn.Sequential(*(_block(i, o) for i, o in pairwise(channels)))
        reduced = FEATURES[-1] * 2 * 2 * 1  # 64, 64, 32 halved five times
        self.shared = nn.Sequential(
            nn.Flatten(), nn.Dropout(DROPOUT), nn.Linear(reduced, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT)
        )
        self.disc_height = nn.Linear(HIDDEN, len(HEIGHTS))
        self.canal_ap = nn.Linear(HIDDEN, 1)
        self.register_buffer("target_mean", torch.tensor(target_mean, dtype=torch.float32))
        self.register_buffer("target_std", torch.tensor(target_std, dtype=torch.float32))

    def standardised(self, patches: Tensor) -> Tensor:
        """(N, 5) targets in units of their spread over the training set, in the order of TARGETS."""
        features = self.shared(self.blocks(patches))
        return torch.cat([self.disc_height(features), self.canal_ap(features)], dim=1)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Disc height (N, 4) mm and canal AP diameter (N, 1) mm of patches (N, 4, 64, 64, 32)."""
        millimetres = self.standardised(patches) * self.target_std + self.target_mean
        return millimetres[:, :4], millimetres[:, 4:]


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel_size=3, stride=1, padding=1),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool3d(2),
    )
