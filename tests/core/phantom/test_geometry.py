"""Small answers worked out by hand for the curve, the shapes and the noise."""

from __future__ import annotations

import numpy as np
import pytest

from spinecore.phantom.column import S1, draw_column
from spinecore.phantom.config import PhantomConfig
from spinecore.phantom.curve import curve_from_angles
from spinecore.phantom.grid import Grid, smooth_noise
from spinecore.phantom.shapes import BodyShape, Frame
from spinecore.phantom.variants import draw_variant

BOX = BodyShape(
    half_height=10, half_depth=15, half_width=20, wedge=0.0, taper=0.0, waist=0.0, lip=0.0, notch=0.0,
    exponent=2.0, concave_up=2.0, concave_down=1.0,
)  # fmt: skip


def test_a_straight_curve_measures_height_and_depth() -> None:
    nodes = np.array([0.0, 100.0])
    curve = curve_from_angles(nodes, np.zeros(2), np.zeros(2), smoothing_mm=4, margin_mm=(10, 10))
    base = float(np.interp(50.0, curve.s_mm, curve.z_mm))
    s, n = curve.project(np.array([7.0]), np.array([base + 3.0]))
    assert s[0] == pytest.approx(53.0) and n[0] == pytest.approx(7.0)
    assert np.allclose(curve.axes(50.0), [[0, 0, 1], [0, 1, 0], [1, 0, 0]])


def test_a_circular_curve_keeps_its_radius() -> None:
    nodes = np.linspace(0, 200, 401)
    curve = curve_from_angles(nodes, nodes / 150.0, np.zeros(401), smoothing_mm=0.5, margin_mm=(0, 0))
    point = curve.point(100.0, 12.0)
    s, n = curve.project(point[1:2], point[2:3])
    assert s[0] == pytest.approx(100.0, abs=0.05) and n[0] == pytest.approx(12.0, abs=0.01)


def test_a_box_like_body_has_known_surfaces() -> None:
    centre, edge = np.zeros(1), np.array([15.0])
    assert BOX.top(centre, centre)[0] == 8.0 and BOX.bottom(centre, centre)[0] == -9.0
    assert BOX.top(edge, centre)[0] == 10.0
    assert BOX.radius(centre, edge, centre)[0] == pytest.approx(1.0)
    assert BOX.radius(centre, centre, np.array([20.0]))[0] == pytest.approx(1.0)
    assert BOX.corner(upper=True, posterior=True).tolist() == [10.0, 15.0, 0.0]
    assert BOX.corner(upper=False, posterior=False).tolist() == [-10.0, -15.0, 0.0]


def test_frames_go_there_and_back() -> None:
    frame = Frame(np.array([1.0, 2.0, 3.0]), np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]))
    assert frame.world(np.array([5.0, 0, 0])).tolist() == [1.0, 2.0, 8.0]
    points = np.random.default_rng(0).normal(size=(4, 3))
    assert np.allclose(frame.local(frame.world(points)), points)


def test_boxes_hold_what_they_are_asked_for() -> None:
    grid = Grid(np.arange(-10, 11.0), np.arange(-20, 21.0), np.arange(-30, 31.0))
    frame = Frame(np.zeros(3), np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]))
    box = grid.box(frame, (-5, -4, -3), (5, 4, 3))
    assert box == (slice(25, 36), slice(16, 25), slice(7, 14))
    s, n, w = grid.local(frame, box)
    assert (s.min(), s.max(), n.max(), w.max()) == (-5, 5, 4, 3)
    assert grid.box(frame, (100, 0, 0), (110, 1, 1)) is None


def test_noise_is_smooth_and_seeded() -> None:
    noise = smooth_noise(np.random.default_rng(1), (60, 50, 40), (15.0, 15.0, 15.0))
    again = smooth_noise(np.random.default_rng(1), (60, 50, 40), (15.0, 15.0, 15.0))
    assert noise.shape == (60, 50, 40) and noise.dtype == np.float32 and np.array_equal(noise, again)
    assert np.abs(np.diff(noise, axis=0)).max() < 0.5 < np.ptp(noise)


def test_the_sacrum_tilts_backwards_and_the_lumbar_spine_is_lordotic() -> None:
    tilts = []
    for seed in range(20):
        config = PhantomConfig(seed=seed, fracture=0.0)
        column = draw_column(
            np.random.default_rng(seed), config, draw_variant(np.random.default_rng(0), config)
        )
        lean = [np.degrees(np.arctan2(-v.frame.axes[0][1], v.frame.axes[0][2])) for v in column.vertebrae]
        tilts.append((lean[S1], lean[S1] - lean[8]))
    slope, lordosis = np.mean(tilts, axis=0)
    assert 25 < slope < 50 and lordosis > 20
