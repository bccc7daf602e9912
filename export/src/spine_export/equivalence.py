"""The proof that an ONNX file computes what the torch network computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from torch import nn

from spinecore.errors import ModelError


@dataclass(frozen=True)
class Difference:
    """Largest absolute difference between ONNX Runtime and torch, and the size of the numbers compared."""

    largest: float
    scale: float

    def __str__(self) -> str:
        return f"largest difference {self.largest:.2e} where values reach {self.scale:.2f}"


def compare(
    onnx_file: bytes, network: nn.Module, *, input_shape: tuple[int, ...], batches: Sequence[int] = (1, 2), seed: int = 0
) -> Difference:
    """Run both on the same random inputs (N, *input_shape), for several batch sizes N."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(seed)
    largest = scale = 0.0
    for batch in batches:
        data = torch.randn(batch, *input_shape, generator=generator)
        with torch.inference_mode():
            expected = network(data)
        outputs = session.run(None, {session.get_inputs()[0].name: data.numpy()})
        for ours, theirs in zip(outputs, _as_tuple(expected), strict=True):
            reference = theirs.float().numpy()
            largest = max(largest, float(np.abs(ours.astype(np.float32) - reference).max()))
            scale = max(scale, float(np.abs(reference).max()))
    return Difference(largest, scale)


def require_equal(difference: Difference, *, relative: float) -> None:
    """ModelError unless the difference is at most `relative` of the values' size."""
    if not difference.largest <= relative * max(difference.scale, 1.0):
        raise ModelError(f"The ONNX file does not compute what torch does: {difference}.")


def _as_tuple(output: object) -> tuple[torch.Tensor, ...]:
    return tuple(output) if isinstance(output, (tuple, list)) else (output,)  # type: ignore[return-value]
