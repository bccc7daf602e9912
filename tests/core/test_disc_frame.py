"""The frame of a disc: right-handed, anatomical, and a rigid change of coordinates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinecore.disc_frame import DiscFrame

coordinate = st.floats(-200, 200)
point = st.tuples(coordinate, coordinate, coordinate)


def test_upright_frame_points_left() -> None:
    frame = DiscFrame.from_axes((1, 2, 3), cranial=(0, 0, 5), anterior=(0, -2, 1))
    np.testing.assert_allclose(frame.e_s, [0, 0, 1])
    np.testing.assert_allclose(frame.e_a, [0, -1, 0])
    np.testing.assert_allclose(frame.e_l, [1, 0, 0])  # LPS: +x is the patient's left


def test_frame_coordinates_by_hand() -> None:
    frame = DiscFrame.from_axes((10, 20, 30), cranial=(0, 0, 1), anterior=(0, -1, 0))
    np.testing.assert_allclose(frame.to_lps((1, 2, 3)), [13, 18, 31])
    np.testing.assert_allclose(frame.moved((0, -8, 0)).origin_mm, [10, 28, 30])


@given(point, point)
def test_to_and_from_lps_are_inverse(origin: tuple[float, ...], sal: tuple[float, ...]) -> None:
    frame = DiscFrame.from_axes(origin, cranial=(0.2, -0.3, 0.9), anterior=(0.1, -1.0, 0.2))
    np.testing.assert_allclose(frame.from_lps(frame.to_lps(sal)), sal, atol=1e-9)


def test_parallel_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="length 0"):
        DiscFrame.from_axes((0, 0, 0), cranial=(0, 0, 1), anterior=(0, 0, -3))
