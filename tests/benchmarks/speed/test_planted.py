"""A small network planted in a wide one: its maps go through it, and what else is there changes nothing."""

from __future__ import annotations

from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from speed.planted import plant
from torch import nn

SMALL_OUTPUTS, WIDE_OUTPUTS = 3, 7


def network(width: int, outputs: int, *, decoder_convolutions: int) -> Any:
    return PlainConvUNet(
        1,
        3,
        [width, 2 * width, 4 * width],
        nn.Conv3d,
        3,
        [1, 2, 2],
        2,
        outputs,
        decoder_convolutions,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        deep_supervision=False,
    ).eval()


def first_maps(net: Any, patch: torch.Tensor) -> list[torch.Tensor]:
    """What the encoder's stages give."""
    with torch.no_grad():
        return list(net.encoder(patch))


def test_a_planted_network_answers_as_the_small_one_does() -> None:
    torch.manual_seed(3)
    small = network(4, SMALL_OUTPUTS, decoder_convolutions=1)
    wide = network(8, WIDE_OUTPUTS, decoder_convolutions=2)
    patch = torch.randn(1, 1, 16, 24, 32)
    plant(wide, small, patch)
    for ours, theirs in zip(first_maps(wide, patch), first_maps(small, patch), strict=True):
        torch.testing.assert_close(ours[:, : theirs.shape[1]], theirs)
    with torch.no_grad():
        ours, theirs = wide(patch)[0], small(patch)[0]
    assert int(ours.argmax(0).max()) < SMALL_OUTPUTS
    torch.testing.assert_close(ours[:SMALL_OUTPUTS], theirs, atol=0.05, rtol=0.05)
    assert float((ours.argmax(0) == theirs.argmax(0)).float().mean()) > 0.98


def test_the_random_maps_change_nothing_in_the_planted_ones() -> None:
    torch.manual_seed(3)
    small, patch = network(4, SMALL_OUTPUTS, decoder_convolutions=1), torch.randn(1, 1, 16, 16, 16)
    answers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        wide = network(8, WIDE_OUTPUTS, decoder_convolutions=2)
        plant(wide, small, patch)
        with torch.no_grad():
            answers.append(wide(patch)[0])
    torch.testing.assert_close(answers[0][:SMALL_OUTPUTS], answers[1][:SMALL_OUTPUTS], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(answers[0][SMALL_OUTPUTS:], answers[1][SMALL_OUTPUTS:])
