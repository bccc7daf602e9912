"""Each of nnU-Net's normalisation schemes, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from spinecore.errors import InputError
from spinecore.network_spec import NORMALIZATIONS, Channel
from spinecore.normalization import SCHEMES, nonzero_mask, normalize, window

CT = {"mean": 10.0, "std": 4.0, "percentile_00_5": 2.0, "percentile_99_5": 18.0}


def run(scheme: str, values: list[float], **channel: object) -> list[float]:
    image = np.array(values, dtype=np.float32).reshape(1, 1, -1)
    mask = image != 0
    normalize(image, Channel("MR", scheme, **channel), mask=mask)  # type: ignore[arg-type]
    return [round(float(v), 5) for v in image.reshape(-1)]


def test_z_score() -> None:
    assert run("ZScoreNormalization", [1, 3, 1, 3]) == [-1, 1, -1, 1]
    assert run("ZScoreNormalization", [5, 5, 5]) == [0, 0, 0]


def test_z_score_within_the_mask_leaves_the_outside_zero() -> None:
    assert run("ZScoreNormalization", [0, 4, 8, 0], use_mask=True) == [0, -1, 1, 0]


def test_ct_clips_then_shifts_by_the_data_sets_figures() -> None:
    assert run("CTNormalization", [-100, 10, 14, 100], intensity=CT) == [-2, 0, 1, 2]


def test_rescaling_and_colours() -> None:
    assert run("RescaleTo01Normalization", [2, 4, 6]) == [0, 0.5, 1]
    assert run("RGBTo01Normalization", [0, 51, 255]) == [0, 0.2, 1]
    assert run("NoNormalization", [3, 7]) == [3, 7]


def test_colours_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="0 to 255"):
        run("RGBTo01Normalization", [0, 256])


def test_every_scheme_the_description_allows_exists() -> None:
    assert set(SCHEMES) == set(NORMALIZATIONS)


def test_a_window_clips_around_its_centre() -> None:
    image = np.array([0, 250, 400, 900], dtype=np.float32)
    window(image, center=400, width=300)
    assert image.tolist() == [250, 250, 400, 550]


def test_the_mask_fills_enclosed_holes_only() -> None:
    voxels = np.zeros((2, 5, 5, 5))
    voxels[0, 1:4, 1:4, 1:4] = 1
    voxels[0, 2, 2, 2] = 0  # enclosed
    voxels[0, 2, 2, 3] = 0  # joins the hole to the outside
    assert nonzero_mask(voxels).sum() == 25
    voxels[1, 2, 2, 3] = -1  # the second channel closes it
    assert nonzero_mask(voxels).sum() == 27


def test_the_mask_is_scipys_on_random_volumes() -> None:
    generator = np.random.default_rng(0)
    for density in (0.3, 0.6, 0.8):
        voxels = generator.random((1, 12, 13, 14)) < density
        np.testing.assert_array_equal(nonzero_mask(voxels), ndimage.binary_fill_holes(voxels[0]))
