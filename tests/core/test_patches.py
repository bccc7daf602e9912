"""The CNN's patch: orientation, shift, z-score, masks, and what lies outside the volume."""

import time

import numpy as np
import pytest

from spinecore.disc_frame import DiscFrame
from spinecore.errors import ModelError
from spinecore.labels import Class
from spinecore.patches import (
    CANAL_BEHIND_MM,
    CANAL_SPACING_MM,
    DESCRIPTION,
    DISC_GRID,
    DISC_SPACING_MM,
    PATCH_SHAPE,
    POSTERIOR_SHIFT_MM,
    check_description,
    extract_patch,
)

UPRIGHT = {"cranial": (0, 0, 1), "anterior": (0, -1, 0)}
AS_THE_PATCH = (DISC_SPACING_MM[2], DISC_SPACING_MM[1], DISC_SPACING_MM[0])  # x, y, z of an upright frame


def centred_affine(shape_zyx: tuple[int, int, int], spacing_xyz: tuple[float, float, float]) -> np.ndarray:
    """Affine of an LPS-aligned grid whose middle is at the LPS origin."""
    affine = np.diag([*spacing_xyz, 1.0])
    affine[:3, 3] = -(np.array(shape_zyx[::-1]) - 1) / 2 * spacing_xyz
    return affine


def lps_of_patch_voxels(spacing_mm: tuple[float, float, float], behind_mm: float) -> np.ndarray:
    """LPS of each patch voxel for an upright frame at the origin: (64, 64, 32, 3)."""
    sides = zip(PATCH_SHAPE, spacing_mm, strict=True)
    s, a, left = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * d for n, d in sides), indexing="ij")
    return np.stack([left, behind_mm - a, s], axis=-1)


def linear_image(shape_zyx: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """x + 10 y + 100 z at every voxel: reproduced exactly by linear interpolation."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape_zyx), indexing="ij")
    lps = np.stack([x, y, z], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    return (lps @ [1.0, 10.0, 100.0]).astype(np.float32)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.4, 0.6, 0.6)])
def test_patch_samples_the_points_it_says(spacing: tuple[float, float, float]) -> None:
    shape = tuple(int(90 / s) for s in spacing[::-1])
    affine = centred_affine(shape, spacing)
    empty = np.zeros(shape, np.uint8)
    frame = DiscFrame.from_axes((0, 0, 0), **UPRIGHT)
    patch = extract_patch(linear_image(shape, affine), empty, empty > 0, affine, frame)
    cut = (
        (patch[0], lps_of_patch_voxels(DISC_SPACING_MM, POSTERIOR_SHIFT_MM)),
        (patch[4], lps_of_patch_voxels(CANAL_SPACING_MM, CANAL_BEHIND_MM)),  # there is no canal
    )
    for channel, points in cut:
        expected = points @ [1.0, 10.0, 100.0]
        expected = (expected - expected.mean()) / expected.std()
        np.testing.assert_allclose(channel, expected, atol=1e-3)
    assert patch.dtype == np.float32 and patch.shape == (8, *PATCH_SHAPE)


def test_the_canals_patch_lies_around_the_canal_behind_the_disc() -> None:
    """What lies above, below or far aside of it does not move it."""
    shape = (90, 90, 90)
    affine = centred_affine(shape, (1.0, 0.5, 0.65))
    _, y, x = np.indices(shape)
    middle = (np.array(shape) - 1) / 2
    at = (abs((y - middle[1]) * 0.5 - 15.0) < 4) & (abs((x - middle[2]) * 1.0 - 3.0) < 4)
    classes = np.where(at, Class.CANAL, 0).astype(np.uint8)
    classes[:35, :30] = Class.CANAL  # elsewhere along the column
    classes[:, 70:, :20] = Class.CANAL  # far to the side
    frame = DiscFrame.from_axes((0, 0, 0), **UPRIGHT)
    patch = extract_patch(np.ones(shape, np.float32), classes, classes > 9, affine, frame)
    a, left = np.nonzero(patch[7, 32, 20:44, 8:24] > 0.5)
    assert (a + 20).mean() == pytest.approx(31.5, abs=0.6)
    assert (left + 8).mean() == pytest.approx(15.5, abs=0.6)
    own = DISC_GRID.first_mm[1] + np.flatnonzero(patch[3, 32, :, 18] > 0.5) * DISC_SPACING_MM[1]
    assert own.mean() == pytest.approx(-15.0, abs=0.5)


def test_axis_order_and_direction_of_the_grid_do_not_matter() -> None:
    shape = (90, 80, 100)
    affine = centred_affine(shape, (1.0, 1.0, 1.0))
    rng = np.random.default_rng(3)
    image = rng.normal(size=shape).astype(np.float32)
    classes = rng.integers(0, 6, shape).astype(np.uint8)
    frame = DiscFrame.from_axes((2, -3, 4), cranial=(0.1, 0.2, 1), anterior=(0, -1, 0.1))
    straight = extract_patch(image, classes, classes == Class.DISC, affine, frame)
    turn = np.array([[0, 0, 1, 0], [0, -1, 0, 79], [1, 0, 0, 0], [0, 0, 0, 1.0]])  # new (x,y,z) -> old index
    image2, classes2 = (a.transpose(2, 1, 0)[:, ::-1] for a in (image, classes))
    turned = extract_patch(image2, classes2, classes2 == Class.DISC, affine @ turn, frame)
    np.testing.assert_allclose(turned, straight, atol=1e-4)


def test_mask_channels_hold_bone_this_disc_and_canal() -> None:
    shape = (90, 90, 90)
    classes = np.zeros(shape, np.uint8)
    bone = {20: Class.SACRUM, 44: Class.BODY, 60: Class.C2}
    for z, kind in bone.items():
        classes[z] = kind
    classes[30:34], classes[50] = Class.DISC, Class.CANAL
    disc = np.zeros(shape, bool)
    disc[32:34] = True
    frame = DiscFrame.from_axes((0, 0, 0), **UPRIGHT)
    patch = extract_patch(
        np.zeros(shape, np.float32), classes, disc, centred_affine(shape, AS_THE_PATCH), frame
    )
    profile = patch[1:4, :, 32, 16]  # patch index i lies at voxel z = i + 13
    assert np.flatnonzero(profile[0] == 1).tolist() == [7, 31, 47]
    assert np.flatnonzero(profile[1] == 1).tolist() == [19, 20]
    assert np.flatnonzero(profile[2] == 1).tolist() == [37]
    assert not patch[[0, 4]].any()  # a constant image carries nothing


def test_outside_the_volume_is_zero_and_not_counted_in_the_z_score() -> None:
    shape = (90, 90, 90)
    affine = centred_affine(shape, AS_THE_PATCH)
    image = np.random.default_rng(0).normal(500, 50, shape).astype(np.float32)
    empty = np.zeros(shape, np.uint8)
    frame = DiscFrame.from_axes((0, 0, 40 * DISC_SPACING_MM[0]), **UPRIGHT)
    patch = extract_patch(image, empty, empty > 0, affine, frame)[0]
    inside = patch[:36]  # the patch reaches from voxel 53 to 116, the volume ends at 89
    assert abs(inside.mean()) < 0.02 and abs(inside.std() - 1) < 0.02
    assert not patch[37:].any()
    far = DiscFrame.from_axes((0, 0, 400), **UPRIGHT)
    assert not extract_patch(image, empty, empty > 0, affine, far).any()


def test_a_patchs_cost_is_its_own_not_the_volumes() -> None:
    frame = DiscFrame.from_axes((0, 0, 0), **UPRIGHT)

    def seconds(shape: tuple[int, int, int]) -> float:
        image, classes = np.ones(shape, np.float32), np.ones(shape, np.uint8)
        disc, affine = classes > 1, centred_affine(shape, (4.4, 0.6, 0.6))
        best = np.inf
        for _ in range(5):
            start = time.process_time()
            extract_patch(image, classes, disc, affine, frame)
            best = min(best, time.process_time() - start)
        return float(best)

    assert seconds((800, 800, 64)) < 3 * seconds((400, 400, 16))


def test_a_network_trained_on_other_patches_is_refused() -> None:
    check_description(dict(DESCRIPTION))
    for description in ({**DESCRIPTION, "patch_spacing_mm": [1.0, 1.0, 1.0]}, {}):
        with pytest.raises(ModelError, match="Train it again"):
            check_description(description)
