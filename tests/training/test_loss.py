"""The cross-entropy along the canal's wall, against a plain sum by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from spine_training.loss import BORDER_REACH, BORDER_WEIGHT, BorderCrossEntropy, near_border  # noqa: E402
from spinecore.labels import Class  # noqa: E402

CLASS_WEIGHTS = torch.tensor([1.0, 1.0, 2.0, 1.0])


def volume_with_canal() -> torch.Tensor:
    classes = torch.zeros(2, 1, 12, 10, 8)
    classes[:, :, :, 4:7, 2:6] = Class.CANAL
    classes[:, :, 3:5, 0:2, :] = Class.DISC
    return classes


def test_a_voxel_is_near_the_border_if_both_sides_are_within_reach() -> None:
    inside = torch.zeros(1, 1, 1, 20, dtype=torch.bool)
    inside[..., 10:] = True
    expected = torch.zeros(20, dtype=torch.bool)
    expected[10 - BORDER_REACH : 10 + BORDER_REACH] = True
    assert torch.equal(near_border(inside)[0, 0, 0], expected)


@pytest.mark.parametrize("ignore", [-100, 4])
def test_it_is_the_weighted_mean_over_the_voxels_that_count(ignore: int) -> None:
    target, generator = volume_with_canal(), torch.Generator().manual_seed(3)
    if ignore >= 0:
        target[:, :, 9:] = ignore
    logits = torch.randn(2, 4, *target.shape[2:], generator=generator)
    total, weight = 0.0, 0.0
    border = near_border(target[:, 0] == Class.CANAL)
    log_p = torch.log_softmax(logits, dim=1)
    for b, z, y, x in torch.nonzero(target[:, 0] != ignore).tolist():
        cls = int(target[b, 0, z, y, x])
        w = float(CLASS_WEIGHTS[cls] * (BORDER_WEIGHT if border[b, z, y, x] else 1.0))
        total, weight = total - w * float(log_p[b, cls, z, y, x]), weight + w
    loss = BorderCrossEntropy(CLASS_WEIGHTS, ignore_index=ignore)(logits, target)
    assert float(loss) == pytest.approx(total / weight, rel=1e-5)


def test_an_error_at_the_wall_costs_more_than_one_elsewhere() -> None:
    target = volume_with_canal()
    right = 8 * torch.nn.functional.one_hot(target[:, 0].long(), 4).movedim(-1, 1).float()
    loss = BorderCrossEntropy(CLASS_WEIGHTS)
    costs = []
    for z, y, x in ((5, 3, 4), (11, 0, 0)):
        wrong = right.clone()
        wrong[0, :, z, y, x] = torch.tensor([0.0, 8.0, 0.0, 0.0])
        costs.append(float(loss(wrong, target) - loss(right, target)))
    assert costs[0] == pytest.approx(BORDER_WEIGHT * costs[1], rel=1e-4)
