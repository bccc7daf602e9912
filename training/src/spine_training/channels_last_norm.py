"""Instance norm that leaves channels-last memory as it is, for one sample at a time on a CPU.

torch's own turns its input into channels-first memory, and the next convolution turns it back: a quarter of
an iteration. Batch norm over a batch of one is the same sum, and has a kernel for channels-last memory. (One
sample forward and backward, 128x128x64, widths from 16, bfloat16, in turn: 2.9 s before, 1.9 s after.)
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import batch_norm


class SampleNorm3d(nn.InstanceNorm3d):
    """`InstanceNorm3d` without running statistics, through batch norm where the batch is one sample."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalised (B, C, Z, Y, X), in the memory format that `input` has."""
        if len(input) > 1:
            return super().forward(input)
        return batch_norm(
            input, None, None, self.weight, self.bias, training=True, momentum=0.0, eps=self.eps
        )


def use_sample_norm(network: nn.Module) -> None:
    """Let every instance norm of `network` be a `SampleNorm3d`; weights and names stay as they are."""
    for module in network.modules():
        if type(module) is nn.InstanceNorm3d and not module.track_running_stats:
            module.__class__ = SampleNorm3d
