"""Tiles, importance and merging, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spinecore.errors import ModelError
from spinecore.tiling import (
    SlidingWindow,
    gaussian_importance,
    mean_of_folds,
    padding,
    predict_mirrored,
    tile_origins,
)


def test_tiles_are_spread_evenly_and_cover_everything() -> None:
    assert tile_origins((10, 4, 6), (4, 4, 4), 0.5) == [(z, 0, x) for z in (0, 2, 4, 6) for x in (0, 2)]
    assert tile_origins((11, 4, 4), (4, 4, 4), 1.0) == [(0, 0, 0), (4, 0, 0), (7, 0, 0)]


def test_padding_is_centred_with_the_odd_voxel_after() -> None:
    assert padding((5, 8, 3), (8, 4, 4)) == [(1, 2), (0, 0), (0, 1)]


def test_importance_peaks_at_ten_and_is_nowhere_zero() -> None:
    weights = gaussian_importance((16, 16, 32))
    assert weights.max() == weights[8, 8, 16] == 10
    assert weights.min() > 0
    np.testing.assert_allclose(weights[8, 8, 12], 10 * np.exp(-0.5), rtol=1e-3)  # one sigma away


def test_one_tile_gives_its_own_logits() -> None:
    data = np.zeros((1, 3, 4, 4), dtype=np.float32)
    window = SlidingWindow(data, patch=(4, 4, 4), step_size=0.5, num_outputs=2)
    logits = np.arange(128, dtype=np.float32).reshape(2, 4, 4, 4)
    assert [origin for origin, _ in window] == [(0, 0, 0)]
    window.add((0, 0, 0), logits)
    np.testing.assert_allclose(window.logits(), logits[:, :3], rtol=2e-3)


def test_two_tiles_are_weighted_by_importance() -> None:
    window = SlidingWindow(np.zeros((1, 6, 4, 4), np.float32), patch=(4, 4, 4), step_size=0.5, num_outputs=1)
    assert window.origins == [(0, 0, 0), (2, 0, 0)]
    for value, origin in enumerate(window.origins):
        window.add(origin, np.full((1, 4, 4, 4), value, dtype=np.float32))
    weights = gaussian_importance((4, 4, 4))[:, 2, 2]
    middle = weights[0] / (weights[2] + weights[0])  # second tile's part in slice 2
    after = weights[1] / (weights[3] + weights[1])
    np.testing.assert_allclose(window.logits()[0, :, 2, 2], [0, 0, middle, after, 1, 1], atol=1e-3)


def test_patches_are_cut_where_the_origins_say() -> None:
    data = np.random.default_rng(0).normal(size=(2, 9, 5, 3)).astype(np.float32)
    window = SlidingWindow(data, patch=(4, 4, 4), step_size=0.5, num_outputs=1)
    padded = np.pad(data, [(0, 0), (0, 0), (0, 0), (0, 1)])
    assert len(window) == len(list(window))
    for (z, y, x), patch in window:
        np.testing.assert_array_equal(patch, padded[:, z : z + 4, y : y + 4, x : x + 4])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_an_error(value: float) -> None:
    window = SlidingWindow(np.zeros((1, 4, 4, 4), np.float32), patch=(4, 4, 4), step_size=0.5, num_outputs=2)
    logits = np.zeros((2, 4, 4, 4), dtype=np.float16)
    logits[1, 2, 2, 2] = value
    window.add((0, 0, 0), logits)
    with pytest.raises(ModelError, match="NaN or infinite"):
        window.logits()


def test_sums_beyond_float16_are_an_error() -> None:
    """At the peak the weight is 10: nnU-Net goes on with infinity there."""
    window = SlidingWindow(np.zeros((1, 4, 4, 4), np.float32), patch=(4, 4, 4), step_size=0.5, num_outputs=1)
    window.add((0, 0, 0), np.full((1, 4, 4, 4), 6600, dtype=np.float16))
    with pytest.raises(ModelError, match="65504"):
        window.logits()
    with pytest.raises(ModelError, match="65504"):
        mean_of_folds(np.full((2, 1, 1, 1), 40000, dtype=np.float16), 2)


def test_an_answer_of_the_wrong_shape_is_an_error() -> None:
    window = SlidingWindow(np.zeros((1, 4, 4, 4), np.float32), patch=(4, 4, 4), step_size=0.5, num_outputs=2)
    with pytest.raises(ModelError, match="expected"):
        window.add((0, 0, 0), np.zeros((3, 4, 4, 4), dtype=np.float16))


def test_mirroring_averages_over_all_combinations() -> None:
    seen = []

    def network(patches: np.ndarray) -> np.ndarray:
        seen.append(patches.copy())
        ramp = np.arange(2, dtype=np.float16).reshape(1, 1, 2, 1, 1)  # 0 and 1 along the first axis
        return np.broadcast_to(ramp, (1, 1, 2, 2, 2)).astype(np.float16)

    patch = np.random.default_rng(0).normal(size=(1, 1, 2, 2, 2)).astype(np.float32)
    logits = predict_mirrored(network, patch, (0, 2))
    assert len(seen) == 4
    np.testing.assert_array_equal(seen[1], patch[:, :, ::-1])
    np.testing.assert_array_equal(seen[3], patch[:, :, ::-1, :, ::-1])
    np.testing.assert_array_equal(logits, np.full((1, 1, 2, 2, 2), 0.5))


def test_mirroring_does_not_write_into_the_networks_own_array() -> None:
    answer = np.ones((1, 1, 2, 2, 2), dtype=np.float32)
    answer.flags.writeable = False
    patch = np.zeros((1, 1, 2, 2, 2), dtype=np.float32)
    np.testing.assert_array_equal(predict_mirrored(lambda _: answer, patch, (1,)), answer)


def test_folds_are_added_and_divided_in_float16() -> None:
    fine = np.float32(2.0**-11)  # what float16 cannot add to 1
    folds = np.array([1.0, -1.0, fine, 2.0, fine, 0.5], dtype=np.float16).reshape(6, 1, 1, 1)
    mean = mean_of_folds(folds.copy(), 3)  # of (1, -1), (fine, 2), (fine, 0.5)
    expected = np.array([1.0, 1.5], dtype=np.float16) / np.float16(3)
    np.testing.assert_array_equal(mean.reshape(-1), expected)
    np.testing.assert_array_equal(mean_of_folds(folds.copy(), 1), folds)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_merging_is_the_same_as_whole_arrays_in_plain_steps(dtype: type) -> None:
    """The merge as its definition says it, tile by tile; sums take two bytes a value."""
    generator = np.random.default_rng(0)
    window = SlidingWindow(
        np.zeros((1, 40, 30, 20), np.float32), patch=(24, 20, 16), step_size=0.5, num_outputs=5
    )
    sums, weights = np.zeros((5, 40, 30, 20), np.float16), np.zeros((40, 30, 20), np.float16)
    importance = gaussian_importance((24, 20, 16))
    for z, y, x in window.origins:
        logits = (generator.normal(size=(5, 24, 20, 16)) * 20).astype(dtype)
        window.add((z, y, x), logits)
        tile = (slice(z, z + 24), slice(y, y + 20), slice(x, x + 16))
        sums[(slice(None), *tile)] = sums[(slice(None), *tile)] + logits.astype(np.float32) * importance
        weights[tile] = weights[tile] + importance
    merged = window.logits()
    assert merged.dtype == np.float16
    np.testing.assert_array_equal(merged, sums / weights)
