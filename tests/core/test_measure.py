"""Heights and diameters against shapes whose lengths are known, on any grid."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spinecore.frame_fit import Neighbours
from spinecore.geometry import Volume, reorient
from spinecore.labels import CANAL
from spinecore.measure import DiscMeasurement, measure_disc

UPPER, LOWER, DISC = 23, 24, 123
NAMES = Neighbours(disc=DISC, upper=UPPER, lower=LOWER)
DEPTH, WIDTH = 36.0, 44.0


def wedge_spine(
    spacing_xyz: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    posterior_mm: float = 7.0,
    anterior_mm: float = 7.0,
    canal_tilt_deg: float = 0.0,
    hollow_mm: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Label map and affine: a disc at the origin between two bodies, with a straight canal of 14 mm behind.

    The disc's height goes linearly from its posterior to its anterior edge, half up and half down; each
    endplate is hollowed by `hollow_mm` in the middle.
    """
    shape = tuple(int(80 / s) | 1 for s in spacing_xyz[::-1])
    affine = np.diag([*spacing_xyz, 1.0])
    affine[:3, 3] = -(np.array(shape[::-1]) - 1) / 2 * spacing_xyz + (0.21, 0.13, 0.37)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    x, y, z = np.moveaxis(np.stack([x, y, z], -1) @ affine[:3, :3].T + affine[:3, 3], -1, 0)
    half = (posterior_mm + (anterior_mm - posterior_mm) * (0.5 - y / DEPTH)) / 2
    half = half + hollow_mm * (1 - (2 * y / DEPTH) ** 2)
    column = (np.abs(y) < DEPTH / 2) & (np.abs(x) < WIDTH / 2) & (np.abs(z) < 30)
    labels = np.zeros(shape, np.uint8)
    labels[column & (z >= half)] = UPPER
    labels[column & (z <= -half)] = LOWER
    labels[column & (np.abs(z) < half)] = DISC
    tilt = np.radians(canal_tilt_deg)
    across = (y - 29) * np.cos(tilt) - z * np.sin(tilt)
    labels[(across / 7) ** 2 + (x / 10) ** 2 < 1] = CANAL
    return labels, affine


def heights(measured: DiscMeasurement) -> list[float]:
    return [measured.heights[place].mm for place in ("posterior", "middle", "anterior")]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.4, 0.6, 0.6), (3.3, 0.8, 0.8)])
def test_parallel_endplates_and_a_straight_canal(spacing: tuple[float, float, float]) -> None:
    measured = measure_disc(*wedge_spine(spacing), NAMES)
    voxel = spacing[1]  # endplates along the grid: a mask cannot say where between two voxel centres they lie
    assert heights(measured) == pytest.approx([7, 7, 7], abs=0.8 * voxel)
    assert measured.mean_height_mm == pytest.approx(7, abs=0.8 * voxel)
    assert measured.canal_ap.mm == pytest.approx(14, abs=0.8 * voxel)
    assert measured.depth_mm == pytest.approx(DEPTH, abs=0.7)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.4, 0.6, 0.6)])
def test_a_wedge_is_measured_where_the_definition_says(spacing: tuple[float, float, float]) -> None:
    measured = measure_disc(*wedge_spine(spacing, posterior_mm=5.0, anterior_mm=13.0), NAMES)
    assert heights(measured) == pytest.approx([5 + 8 * t for t in (0.15, 0.5, 0.85)], abs=0.45)
    assert measured.mean_height_mm == pytest.approx(9, abs=0.2)


def test_hollow_endplates_do_not_shorten_the_disc() -> None:
    measured = measure_disc(*wedge_spine(hollow_mm=3.0), NAMES)
    assert measured.depth_mm == pytest.approx(DEPTH, abs=0.8)
    assert heights(measured) == pytest.approx([10.06, 13.0, 10.06], abs=0.5)  # 7 + 6 (1 - u²), u = ±0.7
    assert measured.mean_height_mm == pytest.approx(11.72, abs=0.3)


def test_the_frame_is_level_and_points_forward() -> None:
    frame = measure_disc(*wedge_spine(posterior_mm=5.0, anterior_mm=13.0), NAMES).frame
    assert frame.e_s @ [0, 0, 1] > 0.9995 and frame.e_a @ [0, -1, 0] > 0.999
    np.testing.assert_allclose(frame.origin_mm, 0, atol=0.4)


def test_height_lines_go_from_the_lower_to_the_upper_endplate() -> None:
    line = measure_disc(*wedge_spine(), NAMES).heights["posterior"].line
    np.testing.assert_allclose(line[:, 2], [-3.5, 3.5], atol=0.4)
    np.testing.assert_allclose(line[:, 1], 0.35 * DEPTH, atol=0.5)  # behind the middle: +y is posterior
    np.testing.assert_allclose(line[:, 0], 0, atol=0.4)


def test_the_canal_line_goes_from_front_to_back() -> None:
    line = measure_disc(*wedge_spine(), NAMES).canal_ap.line
    np.testing.assert_allclose(line[:, 1], [22, 36], atol=0.5)
    np.testing.assert_allclose(line[:, 2], 0, atol=0.4)


def test_the_canal_is_measured_across_itself_not_along_the_disc() -> None:
    measured = measure_disc(*wedge_spine(canal_tilt_deg=25.0), NAMES)
    assert measured.canal_ap.mm == pytest.approx(14, abs=0.4)  # along the disc's plane it is 15.4


@pytest.mark.parametrize("orientation", ["RAS", "PIR", "ASL", "SPL"])
def test_axes_of_the_array_do_not_matter(orientation: str) -> None:
    labels, affine = wedge_spine(posterior_mm=5.0, anterior_mm=13.0)
    turned = reorient(Volume(labels[None], affine), orientation)
    expected = measure_disc(labels, affine, NAMES)
    measured = measure_disc(turned.voxels[0], turned.affine, NAMES)
    assert heights(measured) == pytest.approx(heights(expected), abs=0.02)
    assert measured.canal_ap.mm == pytest.approx(expected.canal_ap.mm, abs=0.02)


def test_a_patient_turned_in_the_scanner_has_the_same_measurements() -> None:
    labels, affine = wedge_spine(posterior_mm=5.0, anterior_mm=13.0)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [30, 15, 10], degrees=True).as_matrix()
    turn[:3, 3] = (40, -70, 300)
    expected = measure_disc(labels, affine, NAMES)
    measured = measure_disc(labels, turn @ affine, NAMES)
    assert heights(measured) == pytest.approx(heights(expected), abs=0.05)
    assert measured.canal_ap.mm == pytest.approx(expected.canal_ap.mm, abs=0.05)
    moved = expected.canal_ap.line @ turn[:3, :3].T + turn[:3, 3]
    np.testing.assert_allclose(measured.canal_ap.line, moved, atol=0.1)


def test_without_a_canal_heights_are_still_measured() -> None:
    labels, affine = wedge_spine()
    labels[labels == CANAL] = 0
    measured = measure_disc(labels, affine, NAMES)
    assert measured.canal_ap is None
    assert heights(measured) == pytest.approx([7, 7, 7], abs=0.3)


def test_a_disc_that_does_not_reach_an_edge_has_no_height_there() -> None:
    labels, affine = wedge_spine()
    y = np.arange(labels.shape[1]) + affine[1, 3]
    labels[:, y > 8][labels[:, y > 8] == DISC] = 0
    cut = labels.copy()
    cut[:, y > 8] = np.where(cut[:, y > 8] == DISC, 0, cut[:, y > 8])
    measured = measure_disc(cut, affine, NAMES)
    assert measured.heights["posterior"] is None
    assert measured.heights["anterior"].mm == pytest.approx(7, abs=0.3)
