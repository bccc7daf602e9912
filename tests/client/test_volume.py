"""What a volume accepts, converts and refuses."""

from __future__ import annotations

import numpy as np
import pytest

from spine_client.errors import InputError
from spine_client.sources import load
from spine_client.volume import Volume

_GRID = np.arange(60).reshape(3, 4, 5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (_GRID.astype(np.uint8), np.int16),
        (_GRID.astype(np.int64) - 50, np.int16),
        (_GRID.astype(np.int32) + 40000, np.uint16),
        (_GRID.astype(np.uint16), np.uint16),
        (_GRID.astype(np.int64) * 100000, np.float32),
        (_GRID.astype(np.float64) / 7, np.float32),
        (_GRID.astype(">i2"), np.int16),
    ],
)
def test_numbers_are_converted_to_the_smallest_type_the_server_takes(values, expected) -> None:
    volume = Volume(values, np.eye(4))
    assert volume.voxels.dtype == expected
    np.testing.assert_allclose(volume.voxels, values.astype(float), rtol=1e-6)


def _with(value: float) -> np.ndarray:
    values = _GRID.astype(np.float32)
    values[1, 1, 1] = value
    return values


_SHEARED = np.eye(4)
_SHEARED[0, 1] = 0.2


@pytest.mark.parametrize(
    ("voxels", "affine", "code"),
    [
        (_with(np.nan), np.eye(4), "not_finite"),
        (_with(np.inf), np.eye(4), "not_finite"),
        (_GRID.astype(np.float64) * 1e300, np.eye(4), "not_finite"),
        (_GRID.astype(complex), np.eye(4), "dtype"),
        (_GRID.astype(bool), np.eye(4), "dtype"),
        (_GRID.astype(str), np.eye(4), "dtype"),
        (_GRID[0], np.eye(4), "shape"),
        (np.zeros((0, 4, 5)), np.eye(4), "shape"),
        (_GRID[:1], np.eye(4), "single_slice"),
        (np.full((3, 4, 5), 7), np.eye(4), "constant_image"),
        (_GRID, np.eye(3), "affine"),
        (_GRID, np.full((4, 4), np.nan), "affine"),
        (_GRID, np.diag([1.0, 1, 0, 1]), "affine_singular"),
        (_GRID, np.ones((4, 4)), "affine_singular"),
        (_GRID, _SHEARED, "affine_sheared"),
    ],
)
def test_unusable_volumes_are_refused_with_a_code(voxels, affine, code: str) -> None:
    with pytest.raises(InputError) as caught:
        Volume(voxels, affine)
    assert caught.value.code == code


def test_voxels_with_affine_are_a_source() -> None:
    volume = load((_GRID, np.diag([0.5, 1.5, 4.0, 1.0])))
    assert volume.shape_zyx == (3, 4, 5)
    assert volume.spacing_zyx_mm == (4.0, 1.5, 0.5)
    assert load(volume) is volume


def test_channels() -> None:
    volume = Volume(np.stack([_GRID, _GRID + 1]), np.eye(4))
    assert (volume.channels, volume.shape_zyx) == (2, (3, 4, 5))
    np.testing.assert_array_equal(volume.image, _GRID)


def test_other_things_are_no_source() -> None:
    with pytest.raises(InputError) as caught:
        load(42)
    assert caught.value.code == "source_type"
