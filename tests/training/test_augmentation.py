"""What the augmentation makes of a patch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from spine_training.augmentation import KEPT, Shorten, training_transforms  # noqa: E402


def test_shortened_patches_end_as_padded_images_do() -> None:
    """One slab of one axis stays as it was; beyond it the image is 0 and the segmentation -1."""
    np.random.seed(7)  # the transforms draw from numpy's global generator
    image, segmentation = torch.full((1, 20, 30, 40), 2.0), torch.ones((1, 20, 30, 40), dtype=torch.int16)
    axes = set()
    for _ in range(30):
        shortened = Shorten()(image=image, segmentation=segmentation)
        kept = shortened["image"] == 2.0
        assert torch.equal(shortened["segmentation"] == 1, kept)
        assert set(shortened["image"][~kept].tolist()) == {0.0}
        assert set(shortened["segmentation"][~kept].tolist()) == {-1}
        corners = kept.nonzero()
        sides = (corners.max(0).values - corners.min(0).values + 1)[1:]
        assert int(kept.sum()) == int(sides.prod())
        (axis,) = [
            i for i, (side, full) in enumerate(zip(sides, image.shape[1:], strict=True)) if side < full
        ]
        assert KEPT[0] - 0.03 < float(sides[axis]) / image.shape[axis + 1] < KEPT[1] + 0.03
        axes.add(axis)
    assert axes == {0, 1, 2}
    assert torch.all(image == 2.0)
    assert torch.all(segmentation == 1)


def test_some_training_patches_are_shortened_and_no_others_hold_padding() -> None:
    """Beyond the end the image is exactly 0, as noise leaves it nowhere else, and the label background."""
    transforms = training_transforms((16, 16, 16), (0.0, 0.0), None, (0,))
    shortened = 0
    for _ in range(60):
        sample = transforms(
            image=torch.rand((1, 20, 20, 20)), segmentation=torch.ones((1, 20, 20, 20), dtype=torch.int16)
        )
        outside = sample["image"] == 0
        shortened += bool(outside.any())
        assert not sample["segmentation"][outside].any()
    assert 0 < shortened < 60
