"""The paper's network with what the demo network has learnt: its cost, and labels that are of spines.

The weights of random networks alone make poor references: their features vary smoothly from one near-tie to
the next, and normalising random maps of 4 × 4 × 4 voxels makes ten thousandths into hundredths. So the demo
network, which has the same stages at a quarter of the width, is put into the first maps of every layer; all
other maps are random, cost the same, and are read by the random ones alone. A second convolution that the
demo network's decoder does not have hands its maps on. Six of the outputs are the demo network's; the others
are computed like them and win nowhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_FAR_BELOW = -20.0
"""Bias of the outputs that win nowhere, in logits."""


def plant(network: nn.Module, small: nn.Module, patch: torch.Tensor) -> None:
    """Put the weights of `small` into `network`, a PlainConvUNet of the same stages and more maps.

    On `patch` (1, C, Z, Y, X) the size of the maps that are handed on is learnt.
    """
    wide: Any = network
    narrow: Any = small
    with torch.no_grad():
        for to, given in zip(wide.encoder.stages, narrow.encoder.stages, strict=True):
            for block, source in zip(to[0].convs, given[0].convs, strict=True):
                _plant_block(block, source, _first(source.conv.in_channels))
        spreads = _decoder_maps(narrow, patch)
        for number, spread in enumerate(spreads):
            _plant_decoder_stage(wide.decoder, narrow.decoder, number, spread)
        _plant_outputs(wide.decoder.seg_layers[-1], narrow.decoder.seg_layers[-1])


def _plant_decoder_stage(
    wide: Any, narrow: Any, number: int, spread: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Up-sampling, the convolution over it and what was skipped, and the convolution that hands it on."""
    to, given = wide.transpconvs[number], narrow.transpconvs[number]
    to.weight[:, : given.out_channels] = 0
    to.weight[: given.in_channels, : given.out_channels] = given.weight
    to.bias[: given.out_channels] = given.bias
    first, handing_on = wide.stages[number].convs
    skipped = [to.out_channels + each for each in range(given.out_channels)]
    source = narrow.stages[number].convs[0]
    _plant_block(first, source, [*_first(given.out_channels), *skipped])
    _hand_on(handing_on, spread)


def _plant_block(to: Any, given: Any, inputs: list[int]) -> None:
    """Convolution, normalisation: the first maps of `to` are those of `given`, from `inputs` alone."""
    maps = given.conv.out_channels
    to.conv.weight[:maps] = 0
    to.conv.weight[:maps, inputs] = given.conv.weight
    to.conv.bias[:maps] = given.conv.bias
    to.norm.weight[:maps] = given.norm.weight
    to.norm.bias[:maps] = given.norm.bias


def _hand_on(block: Any, spread: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Leave the first maps as they are: the middle of a kernel, and a norm that restores mean and spread."""
    mean, deviation = spread
    maps = range(len(mean))
    block.conv.weight[: len(mean)] = 0
    middle = [side // 2 for side in block.conv.kernel_size]
    block.conv.weight[(maps, maps, *middle)] = 1
    block.conv.bias[: len(mean)] = 0
    block.norm.weight[: len(mean)] = deviation
    block.norm.bias[: len(mean)] = mean


def _plant_outputs(to: Any, given: Any) -> None:
    to.weight[: given.out_channels] = 0
    to.weight[: given.out_channels, : given.in_channels] = given.weight
    to.bias[: given.out_channels] = given.bias
    to.bias[given.out_channels :] = _FAR_BELOW


def _decoder_maps(network: Any, patch: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Mean and standard deviation of the maps that each of the decoder's stages gives on `patch`."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(_module: nn.Module, _given: Any, maps: torch.Tensor) -> None:
        seen.append((maps.mean((0, 2, 3, 4)), maps.std((0, 2, 3, 4))))

    hooks = [stage.register_forward_hook(keep) for stage in network.decoder.stages]
    network.eval()(patch)
    for hook in hooks:
        hook.remove()
    return seen


def _first(count: int) -> list[int]:
    return list(range(count))
