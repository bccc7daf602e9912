"""The proof that a network file computes what the torch network computes, patch by patch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from spine_export.errors import GateError


@dataclass(frozen=True)
class Difference:
    """Largest and mean absolute difference from torch, and the size and spread of the numbers compared."""

    largest: float
    scale: float
    mean: float = 0.0
    spread: float = 0.0

    def __str__(self) -> str:
        return f"largest difference {self.largest:.2e} where values reach {self.scale:.2f}"


def compare(
    onnx_file: bytes,
    network: nn.Module,
    *,
    input_shape: tuple[int, ...],
    batches: Sequence[int] = (1, 2),
    seed: int = 0,
) -> Difference:
    """Run both on the same random inputs (N, *input_shape), for several batch sizes N, in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    generator = torch.Generator().manual_seed(seed)
    data = [torch.randn(batch, *input_shape, generator=generator).numpy() for batch in batches]
    return compare_runs(lambda patches: session.run(None, {name: patches}), network, data)


def compare_runs(
    run: Callable[[NDArray[np.float32]], Sequence[NDArray[Any]]],
    network: nn.Module,
    data: Sequence[NDArray[np.float32]],
) -> Difference:
    """Compare the outputs of `run` with torch's for each batch of `data`."""
    gaps, references = [], []
    for patches in data:
        with torch.inference_mode():
            expected = network(torch.from_numpy(patches))
        for ours, theirs in zip(run(patches), _as_tuple(expected), strict=True):
            reference = theirs.float().numpy()
            gaps.append(np.abs(ours.astype(np.float32) - reference).reshape(-1))
            references.append(reference.reshape(-1))
    gap, reference = np.concatenate(gaps), np.concatenate(references)
    return Difference(
        largest=float(gap.max()),
        scale=float(np.abs(reference).max()),
        mean=float(gap.mean()),
        spread=float(reference.std()),
    )


def require_equal(difference: Difference, *, relative: float) -> None:
    """GateError unless the largest difference is at most `relative` of the values' size."""
    if not difference.largest <= relative * max(difference.scale, 1.0):
        raise GateError(f"The ONNX file does not compute what torch does: {difference}.")


def require_close(difference: Difference, *, mean_of_spread: float, engine: str) -> None:
    """GateError unless the mean difference is at most `mean_of_spread` of the values' standard deviation."""
    if not difference.mean <= mean_of_spread * max(difference.spread, 1e-6):
        raise GateError(
            f"{engine} does not compute what torch does: mean difference {difference.mean:.2e} where the "
            f"logits' deviation is {difference.spread:.2e} (at most {mean_of_spread:g} of it is allowed)."
        )


def _as_tuple(output: object) -> tuple[torch.Tensor, ...]:
    return tuple(output) if isinstance(output, (tuple, list)) else (output,)  # type: ignore[return-value]
