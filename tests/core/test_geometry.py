"""Orientation, turning and sampling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spinecore.geometry import (
    Volume,
    index_to_lps,
    lps_to_index,
    lps_to_ras,
    orientation,
    reorient,
    restore_orientation,
    sample,
    spacing_zyx,
    turn,
)

CODES = [
    "".join(letters)
    for order in itertools.permutations(("LR", "PA", "SI"))
    for letters in itertools.product(*order)
]

# A sagittal series: x runs to posterior (0.5 mm), y to inferior (0.75 mm), z to the left (4 mm).
SAGITTAL = np.array([[0, 0, 4, -10], [0.5, 0, 0, -20], [0, -0.75, 0, 30], [0, 0, 0, 1]], dtype=np.float64)


def a_volume(seed: int = 0, shape: tuple[int, ...] = (2, 3, 4, 5)) -> Volume:
    """Random voxels with a random oblique affine of spacing 0.5, 0.8, 3 mm (x, y, z)."""
    generator = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() @ np.diag([0.5, 0.8, 3.0])
    affine[:3, 3] = generator.normal(size=3) * 40
    return Volume(generator.normal(size=shape), affine)


def test_a_sagittal_series_is_named_pil() -> None:
    volume = Volume(np.zeros((1, 2, 3, 4)), SAGITTAL)
    assert volume.orientation == "PIL"
    assert volume.spacing_zyx == (4.0, 0.75, 0.5)
    assert volume.shape_zyx == (2, 3, 4)


def test_identity_is_lps_and_nifti_identity_is_ras() -> None:
    assert orientation(np.eye(4)) == "LPS"
    assert orientation(lps_to_ras(np.eye(4))) == "RAS"


def test_reorienting_a_sagittal_series_by_hand() -> None:
    volume = Volume(np.arange(24.0).reshape(1, 2, 3, 4), SAGITTAL)
    turned = reorient(volume, "RAS")
    assert turned.voxels.shape == (1, 3, 4, 2)  # S, A, R
    # First voxel of RAS: most inferior (y = 2), most posterior (x = 3), most left (z = 1).
    assert turned.voxels[0, 0, 0, 0] == volume.voxels[0, 1, 2, 3]
    np.testing.assert_allclose(turned.affine[:3, 3], [-6.0, -18.5, 28.5])
    np.testing.assert_allclose(turned.affine[:3, :3], [[-4, 0, 0], [0, -0.5, 0], [0, 0, 0.75]])


@pytest.mark.parametrize("target", CODES)
def test_every_voxel_stays_where_it_was(target: str) -> None:
    volume = a_volume()
    turned = reorient(volume, target)
    assert turned.orientation == target
    for index_zyx in np.ndindex(turned.shape_zyx):
        place = index_to_lps(turned.affine, index_zyx[::-1])
        x, y, z = np.round(lps_to_index(volume.affine, place)).astype(int)
        np.testing.assert_array_equal(turned.voxels[(slice(None), *index_zyx)], volume.voxels[:, z, y, x])


@given(seed=st.integers(0, 10_000), target=st.sampled_from(CODES))
@settings(max_examples=60, deadline=None)
def test_turning_back_gives_the_same_volume(seed: int, target: str) -> None:
    volume = a_volume(seed)
    turned = reorient(volume, target)
    again = reorient(turned, volume.orientation)
    np.testing.assert_array_equal(again.voxels, volume.voxels)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-9)
    np.testing.assert_array_equal(
        restore_orientation(turned.voxels, source=volume.orientation, target=target), volume.voxels
    )
    np.testing.assert_allclose(sorted(turned.spacing_zyx), sorted(volume.spacing_zyx))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_orientation_and_reorientation_agree_with_nibabel(seed: int) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume = a_volume(seed, (1, 3, 4, 5))
    image = nibabel.Nifti1Image(volume.voxels[0].T, lps_to_ras(volume.affine))
    assert orientation(volume.affine) == "".join(nibabel.aff2axcodes(image.affine))
    canonical, turned = nibabel.as_closest_canonical(image), reorient(volume, "RAS")
    np.testing.assert_array_equal(canonical.get_fdata().T, turned.voxels[0])
    np.testing.assert_allclose(canonical.affine, lps_to_ras(turned.affine), atol=1e-9)


@pytest.mark.parametrize("code", ["", "LP", "LLS", "LPX", "LRS", "lps"])
def test_impossible_codes_are_refused(code: str) -> None:
    with pytest.raises(ValueError, match="three different directions"):
        turn(np.zeros((2, 2, 2)), source=code, target="LPS")


def test_points_go_to_voxels_and_back() -> None:
    points = np.random.default_rng(1).normal(size=(7, 3)) * 50
    affine = a_volume(4).affine
    np.testing.assert_allclose(index_to_lps(affine, lps_to_index(affine, points)), points, atol=1e-9)
    np.testing.assert_allclose(index_to_lps(SAGITTAL, (2, 4, 1)), [-6.0, -19.0, 27.0])
    assert spacing_zyx(SAGITTAL) == (4.0, 0.75, 0.5)


def test_sampling_is_linear_between_voxels_and_constant_outside() -> None:
    array = np.zeros((2, 3, 4), dtype=np.int16)
    array[1, 2, 3], array[1, 2, 2] = 10, 4
    at = index_to_lps(SAGITTAL, [[3, 2, 1], [2.5, 2, 1], [2.5, 2, 0.5], [3.5, 2, 1]])
    values = sample(array, at, affine=SAGITTAL, outside=-1.0)
    np.testing.assert_allclose(values, [10, 7, 3.5, -1], atol=1e-5)
    assert values.dtype == np.float32
    assert sample(array, at.reshape(2, 2, 3), affine=SAGITTAL).shape == (2, 2)
