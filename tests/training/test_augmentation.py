"""What the augmentation makes of a patch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from spine_training.augmentation import KEPT, Shorten  # noqa: E402


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
