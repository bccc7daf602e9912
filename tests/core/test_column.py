"""Arc length along the column."""

import numpy as np

from spinecore.column import fit_column


def bent_column(radius_mm: float, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Random points round a circular arc in the sagittal plane, and their true arc length."""
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, np.radians(degrees), 30_000)
    out = radius_mm + rng.uniform(-15, 15, angle.size)
    points = np.stack([rng.uniform(-20, 20, angle.size), -out * np.cos(angle), out * np.sin(angle)], axis=1)
    return points, radius_mm * angle


def test_arc_length_follows_a_lordosis() -> None:
    points, true = bent_column(180.0, 60.0)
    arc = fit_column(points).project(points)
    inner = (true > 15) & (true < true.max() - 15)
    error = (arc - arc[inner].mean()) - (true - true[inner].mean())
    assert np.abs(error[inner]).max() < 4.0  # of 188 mm; a projection onto the z axis is off by 33 mm


def test_arc_length_grows_towards_the_head() -> None:
    points, true = bent_column(180.0, 60.0)
    arc = fit_column(points).project(points)
    assert np.corrcoef(arc, true)[0, 1] > 0.99


def test_a_single_voxel_gives_an_upright_line() -> None:
    column = fit_column(np.array([[3.0, 4.0, 5.0]]))
    np.testing.assert_allclose(column.tangent_at(0.0), [0, 0, 1])
    arc = column.project(np.array([[3.0, 4.0, 5.0], [3.0, 4.0, 12.0]]))
    np.testing.assert_allclose(arc[1] - arc[0], 7.0)
