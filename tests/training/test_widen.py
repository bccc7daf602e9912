"""A wider network computes what the narrow one did, and its copies can be told apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from spine_training.channels_last_norm import SampleNorm3d, use_sample_norm
from spine_training.plans import NetworkSizeError
from spine_training.widen import widened

NARROW, WIDE = (4, 6, 8), (8, 9, 8)
KEY = "encoder.stages.0.0.convs.0.conv.weight"


def network(widths: tuple[int, ...], *, convolutions: int = 2) -> Any:
    torch.manual_seed(len(widths) + sum(widths))
    return PlainConvUNet(
        1, len(widths), widths, nn.Conv3d, 3, [1, *[2] * (len(widths) - 1)], convolutions, 3, 1,
        conv_bias=True, norm_op=nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=True,
    )  # fmt: skip


def answers(net: Any, patch: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(net(patch))


def randomised(net: Any) -> Any:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return net


def test_a_widened_network_computes_the_same() -> None:
    narrow, wide = randomised(network(NARROW)), network(WIDE)
    wide.load_state_dict(widened(narrow.state_dict(), wide))
    patch = torch.randn(1, 1, 16, 16, 16)
    for ours, theirs in zip(answers(wide, patch), answers(narrow, patch), strict=True):
        assert float(theirs.std()) > 0.1
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_its_copies_get_different_gradients() -> None:
    narrow, wide = randomised(network(NARROW)), network(WIDE)
    wide.load_state_dict(widened(narrow.state_dict(), wide))
    sum(out.square().mean() for out in wide(torch.randn(1, 1, 16, 16, 16))).backward()
    gradient = wide.encoder.stages[0][0].convs[0].conv.weight.grad
    assert not torch.allclose(gradient[:4], gradient[4:], rtol=0.05)


def test_equal_widths_give_the_weights_back() -> None:
    narrow = randomised(network(NARROW))
    state = widened(narrow.state_dict(), network(NARROW))
    assert all(torch.equal(state[key], weight) for key, weight in narrow.state_dict().items())


def test_a_network_cannot_shrink_or_change_its_layers() -> None:
    with pytest.raises(NetworkSizeError, match="8 channels cannot become one with 4"):
        widened(network(WIDE).state_dict(), network((4, 9, 8)))
    with pytest.raises(NetworkSizeError, match="other layers"):
        widened(network(NARROW, convolutions=1).state_dict(), network(WIDE))


@pytest.mark.parametrize("samples", [1, 2])
def test_sample_norm_is_instance_norm(samples: int) -> None:
    plain = nn.Sequential(nn.InstanceNorm3d(5, eps=1e-5, affine=True))
    with torch.no_grad():
        plain[0].weight.uniform_(0.5, 2)
        plain[0].bias.uniform_(-1, 1)
    fast = nn.Sequential(nn.InstanceNorm3d(5, eps=1e-5, affine=True))
    fast.load_state_dict(plain.state_dict())
    use_sample_norm(fast)
    assert isinstance(fast[0], SampleNorm3d)
    patch = torch.randn(samples, 5, 6, 7, 8).to(memory_format=torch.channels_last_3d)
    ours, theirs = patch.clone().requires_grad_(), patch.clone().requires_grad_()
    found = fast(ours)
    torch.testing.assert_close(found, plain(theirs), rtol=1e-4, atol=1e-5)
    assert samples > 1 or found.is_contiguous(memory_format=torch.channels_last_3d)
    fast(ours).square().sum().backward()
    plain(theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)
