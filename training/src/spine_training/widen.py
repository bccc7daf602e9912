"""A wider network that starts from a narrower one's weights and computes the same function (Net2Net).

Chen, Goodfellow, Shlens: Net2Net, ICLR 2016. Every channel of the narrow network is repeated in the wide one,
and what reads it is shared out among the copies, in unequal shares, so that training can tell them apart.
Instance norm is per channel, so copies stay copies through it. What was learnt is kept, and the new width is
free to learn more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spine_training.plans import NetworkSizeError

SHARES = (0.25, 0.75)  # of two copies; more are shared out alike, then scaled to sum to 1

Weights = Mapping[str, Tensor]


def widened(weights: Weights, network: nn.Module, *, seed: int = 0) -> dict[str, Tensor]:
    """A state of `network` (nnU-Net's PlainConvUNet) that computes what `weights`, of a narrower one, did.

    Both have the same stages, convolutions and outputs; no layer of `network` may be narrower. Equal widths
    give the weights back as they are. Raises NetworkSizeError otherwise.
    """
    shares = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    own = network.state_dict()
    if set(own) != set(weights):
        raise NetworkSizeError(
            "The weights are of a network with other layers; stages and convolutions must agree."
        )
    for key, target in own.items():
        source = weights[key].to(target.dtype)
        inputs = _inputs(key, source, target, own, weights)
        state[key] = _widened_tensor(source, target, inputs, transposed="transpconvs" in key, shares=shares)
    _share_storage(state, own)
    return state


def _inputs(key: str, source: Tensor, target: Tensor, own: Mapping[str, Any], weights: Weights) -> list[Any]:
    """(narrow, wide) channel counts of the blocks that are concatenated in what a kernel reads."""
    if source.ndim < 2:
        return []
    axis = 0 if "transpconvs" in key else 1
    stage = _decoder_stage(key)
    if stage is None:
        return [(source.shape[axis], target.shape[axis])]
    up = (
        f"{key.split('stages')[0]}transpconvs.{stage}.weight"  # its outputs come first, the skip's after them
    )
    narrow, wide = weights[up].shape[1], own[up].shape[1]
    return [(narrow, wide), (source.shape[axis] - narrow, target.shape[axis] - wide)]


def _decoder_stage(key: str) -> str | None:
    """The stage of a decoder's first convolution, whose input is a concatenation; None for any other key."""
    parts = key.split(".")
    if "decoder" not in parts or "encoder" in parts or "stages" not in parts or "convs" not in parts:
        return None
    at = parts.index("convs")
    return parts[parts.index("stages") + 1] if parts[at + 1] == "0" else None


def _widened_tensor(
    source: Tensor, target: Tensor, inputs: list[Any], *, transposed: bool, shares: torch.Generator
) -> Tensor:
    if source.ndim == 0 or source.shape == target.shape:
        return source.clone()
    out_axis, in_axis = (1, 0) if transposed and source.ndim > 1 else (0, 1)
    wide = source.index_select(out_axis, _copies(source.shape[out_axis], target.shape[out_axis]))
    if source.ndim == 1:
        return wide
    blocks, start = [], 0
    for narrow, width in inputs:
        blocks.append(_shared_out(wide.narrow(in_axis, start, narrow), width, in_axis, shares))
        start += narrow
    return torch.cat(blocks, dim=in_axis)


def _copies(narrow: int, wide: int) -> Tensor:
    """Which of `narrow` channels each of the `wide` ones repeats."""
    if wide < narrow:
        raise NetworkSizeError(
            f"A layer with {narrow} channels cannot become one with {wide}: it may only grow."
        )
    return torch.arange(wide) % narrow


def _shared_out(kernel: Tensor, width: int, axis: int, generator: torch.Generator) -> Tensor:
    """`kernel` with its `axis` repeated to `width`; the copies of a channel sum to what it was."""
    narrow = kernel.shape[axis]
    if width < narrow:
        raise NetworkSizeError(f"A layer that reads {narrow} channels cannot read {width}: it may only grow.")
    copy = torch.arange(width) % narrow
    wide = kernel.index_select(axis, copy)
    share = torch.empty(wide.shape).uniform_(*SHARES, generator=generator)
    total = torch.zeros(kernel.shape).index_add_(axis, copy, share)
    return wide * share / total.index_select(axis, copy)


def _share_storage(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """nnU-Net registers a module under several names: those keys must hold the same widened tensor."""
    first: dict[int, str] = {}
    for key, tensor in own.items():
        state[key] = state[first.setdefault(tensor.data_ptr(), key)]
