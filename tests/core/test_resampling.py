"""Grids, the separate axis, and resampling by hand. Equality with nnU-Net: test_nnunet_parity.py."""

from __future__ import annotations

import numpy as np
import pytest

from spinecore.network_spec import Resampling
from spinecore.resampling import (
    apply_along,
    apply_on_threads,
    axis_operator,
    nearest_slices,
    resample,
    separate_axis,
    target_shape,
)

ISO = (1.25, 1.25, 1.25)
SAGITTAL = (0.6, 0.6, 4.4)


def test_target_shapes_round_ties_to_even() -> None:
    assert target_shape((512, 512, 17), spacing_mm=SAGITTAL, new_spacing_mm=ISO) == (246, 246, 60)
    assert target_shape((5, 7, 1), spacing_mm=(0.5, 0.5, 0.1), new_spacing_mm=(1, 1, 1)) == (2, 4, 1)


@pytest.mark.parametrize(
    ("force", "old", "new", "axis"),
    [
        (None, SAGITTAL, ISO, 2),
        (None, ISO, SAGITTAL, 2),
        (None, ISO, (1.0, 1.0, 1.0), None),
        (None, (3.0, 1.0, 1.0), ISO, None),  # exactly 3 is not anisotropic
        (None, (0.5, 3.0, 3.0), ISO, None),  # tied: off
        (None, (0.5, 3.0, 3.0), SAGITTAL, None),  # the current spacing decides, tied
        (None, (5.0, 1.0, 1.0), SAGITTAL, 0),  # the current spacing decides
        (False, SAGITTAL, ISO, None),
        (True, (1.0, 1.1, 1.0), ISO, 1),
        (True, ISO, SAGITTAL, None),
    ],
)
def test_which_axis_is_done_apart(
    force: bool | None, old: tuple[float, ...], new: tuple[float, ...], axis: int | None
) -> None:
    how = Resampling(force_separate_z=force)
    assert separate_axis(how, spacing_mm=old, new_spacing_mm=new) == axis  # type: ignore[arg-type]


def test_halving_takes_the_mean_and_doubling_interpolates() -> None:
    np.testing.assert_allclose(axis_operator(4, 2, 1).toarray(), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(axis_operator(2, 4, 1).toarray(), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


@pytest.mark.parametrize("order", range(6))
def test_constant_images_stay_constant(order: int) -> None:
    for n_in, n_out in ((1, 1), (1, 7), (5, 1), (9, 31), (31, 9)):
        np.testing.assert_allclose(axis_operator(n_in, n_out, order).sum(axis=1), 1.0, atol=1e-12)


def test_nearest_slices_ties_go_up() -> None:
    assert nearest_slices(4, 2, "default").tolist() == [1, 3]
    assert nearest_slices(4, 2, "torch").tolist() == [1, 3]
    assert nearest_slices(2, 5, "default").tolist() == [0, 0, 1, 1, 1]


def test_nearest_slices_are_those_of_map_coordinates() -> None:
    from scipy.ndimage import map_coordinates

    for n_in in range(1, 40):
        for n_out in range(1, 40):
            at = n_in / n_out * (np.arange(n_out) + 0.5) - 0.5
            expected = map_coordinates(np.arange(float(n_in)), [at], order=0, mode="nearest")
            np.testing.assert_array_equal(nearest_slices(n_in, n_out, "default"), expected)


def test_nearest_slices_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    for n_in in range(1, 60):
        for n_out in range(1, 60):
            ramp = torch.arange(float(n_in))[None, None, :, None, None]
            expected = torch.nn.functional.interpolate(ramp, (n_out, 1, 1), mode="nearest-exact")
            np.testing.assert_array_equal(nearest_slices(n_in, n_out, "torch"), expected.flatten().numpy())


def test_resizing_is_skimages() -> None:
    transform = pytest.importorskip("skimage.transform")
    image = np.random.default_rng(0).normal(size=(1, 13, 17, 11)).astype(np.float32)
    for shape in ((20, 9, 11), (1, 30, 5), (13, 17, 12)):
        for order in (0, 1, 2, 3):
            expected = transform.resize(
                image[0].astype(float), shape, order=order, mode="edge", anti_aliasing=False
            )
            result = resample(
                image, shape, spacing_mm=ISO, new_spacing_mm=ISO, resampling=Resampling("default", order)
            )
            np.testing.assert_allclose(result[0], expected, atol=1e-6)


def test_an_array_on_its_grid_already_is_left_alone() -> None:
    image = np.random.default_rng(0).normal(size=(1, 4, 5, 6)).astype(np.float32)
    same = resample(image, (4, 5, 6), spacing_mm=ISO, new_spacing_mm=SAGITTAL, resampling=Resampling())
    assert same is image


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blocks_on_threads_give_the_bits_of_the_whole_product(axis: int) -> None:
    array = np.random.default_rng(axis).normal(size=(70, 90, 110))  # two and three blocks of columns
    operator = axis_operator(array.shape[axis], 50, 3)
    found = apply_on_threads(operator, array, axis)
    assert found.shape == tuple(50 if a == axis else n for a, n in enumerate(array.shape))
    assert np.array_equal(found, apply_along(operator, array, axis))
