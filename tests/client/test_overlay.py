"""Which slice is drawn, which way up, and where measurements land in it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from fake_triton import report_dict
from matplotlib.image import imread

from spine_client._report_parser import parse_report
from spine_client.overlay import draw_overlay
from spine_client.overlay.contours import smooth_mask
from spine_client.overlay.margin import spread
from spine_client.overlay.plane import midsagittal_plane
from spine_client.result import SpineResult
from spine_client.volume import Volume

_SHAPE_LPS = (10, 20, 30)
"""Voxels to the left, to the back, upward."""
_SPACING_LPS = (4.0, 1.0, 1.5)
_MARK_LPS = (6, 4, 25)
"""A voxel left of the middle, near the front, near the top."""


def _result(order: tuple[int, ...] = (0, 1, 2), flips=(False, False, False), **report) -> SpineResult:
    """A volume stored with any axis order and direction; one labelled voxel at `_MARK_LPS`."""
    labels = np.zeros(_SHAPE_LPS, np.uint8)
    labels[_MARK_LPS] = 61
    affine = np.diag([*_SPACING_LPS, 1.0])
    permutation = np.zeros((4, 4))
    permutation[3, 3] = 1
    for stored, world in enumerate(order):
        sign = -1 if flips[stored] else 1
        permutation[world, stored] = sign
        permutation[world, 3] = _SHAPE_LPS[world] - 1 if flips[stored] else 0
    labels = labels.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    image = labels.astype(np.int16) + np.arange(labels.size, dtype=np.int16).reshape(labels.shape) % 5
    volume = Volume(image.transpose(2, 1, 0), affine @ permutation)
    text = __import__("json").dumps(report_dict(**({"discs": [], "vertebrae": []} | report)))
    return SpineResult(np.ascontiguousarray(labels.transpose(2, 1, 0)), volume, parse_report(text), "id")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
def test_superior_is_up_and_anterior_left_however_the_volume_is_stored(order, flips) -> None:
    plane = midsagittal_plane(_result(order, flips))
    assert plane.labels.shape == (30, 20)
    assert plane.spacing_mm == (1.5, 1.0)
    assert [tuple(int(v) for v in at) for at in np.argwhere(plane.labels == 61)] == [(30 - 1 - 25, 4)]
    mark_lps = tuple(float(i * s) for i, s in zip(_MARK_LPS, _SPACING_LPS, strict=True))
    np.testing.assert_allclose(plane.project(mark_lps), (4 * 1.0, (30 - 1 - 25) * 1.5))


def test_slice_lies_where_the_measurements_were_taken() -> None:
    disc = report_dict()["discs"][0]
    x = 2 * _SPACING_LPS[0]
    line = [[x, 0.0, 0.0], [x, 0.0, 9.0]]
    disc = {**disc, "height_lines_lps_mm": {"anterior": line, "middle": line, "posterior": line}}
    result = _result(discs=[disc])
    plane = midsagittal_plane(result)
    np.testing.assert_array_equal(plane.image, result.volume.image[::-1, :, 2])


def test_without_any_finding_the_middle_slice_is_drawn() -> None:
    result = _result()
    empty = SpineResult(np.zeros_like(result.labels), result.volume, result.report, "id")
    np.testing.assert_array_equal(midsagittal_plane(empty).image, result.volume.image[::-1, :, 5])


@pytest.mark.parametrize("found", [True, False])
def test_picture_is_written_true_to_scale(tmp_path: Path, found: bool) -> None:
    result = _result() if not found else _result(**report_dict())
    draw_overlay(result, tmp_path / "overlay.png")
    picture = imread(tmp_path / "overlay.png")
    assert picture.shape[0] > 800
    assert picture.std() > 0.05


def test_outline_of_a_smoothed_mask_keeps_its_area() -> None:
    mask = np.zeros((30, 40), bool)
    mask[8:20, 10:30] = True
    x, y, coverage = smooth_mask(mask, (2.0, 0.5))
    area = (coverage > 0.5).mean() * (x[-1] - x[0]) * (y[-1] - y[0])
    assert area == pytest.approx(mask.sum() * 2.0 * 0.5, rel=0.1)
    assert x[0] < 10 * 0.5 < 29 * 0.5 < x[-1]


def test_rows_of_the_table_keep_their_distance_and_order() -> None:
    rows = spread([10, 11, 12, 50, 99, 100], low=5, high=100, gap=4)
    assert np.diff(rows).min() >= 4 - 1e-9
    assert max(rows) <= 100
    assert rows[3] == 50


def test_more_rows_than_room_share_the_room() -> None:
    rows = spread([50.0] * 11, low=0, high=100, gap=40)
    assert max(rows) <= 100 + 1e-9
    assert np.diff(rows).min() > 5


def test_picture_follows_a_spine_that_leaves_the_slice() -> None:
    def disc_at(row: int, left: int) -> dict:
        x, z = left * _SPACING_LPS[0], (29 - row) * _SPACING_LPS[2]
        line = [[x, 0.0, z], [x, 5.0, z]]
        lines = {"anterior": line, "middle": line, "posterior": line}
        return {**report_dict()["discs"][0], "height_lines_lps_mm": lines}

    result = _result(discs=[disc_at(5, 2), disc_at(15, 6)])
    plane = midsagittal_plane(result)
    assert plane.is_curved
    np.testing.assert_allclose(plane.slices[[0, 5, 10, 15, 29]], [2, 2, 4, 6, 6])
    upright = result.volume.image[::-1]
    np.testing.assert_allclose(plane.image[10], upright[10, :, 4])
    np.testing.assert_allclose(plane.image[7], 0.2 * upright[7, :, 2] + 0.8 * upright[7, :, 3])
