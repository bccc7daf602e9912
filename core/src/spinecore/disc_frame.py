"""The frame of one disc: where it lies and how it is turned, in LPS mm.

Every measurement and every CNN patch is taken in this frame, so that an oblique, rotated or thick-sliced
acquisition gives the same numbers as a straight isotropic one. `spinecore.measure` says how a frame is
found from masks; the phantom states its own exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class DiscFrame:
    """Origin and three unit axes, each a (3,) float64 LPS vector; (e_s, e_a, e_l) is right-handed.

    origin_mm: centre of the disc. e_s: caudal -> cranial, normal of the disc's mid plane.
    e_a: posterior -> anterior along the disc in the midsagittal plane. e_l: patient's right -> left.
    Coordinates in the frame are ordered (s, a, l), in mm.
    """

    origin_mm: FloatArray
    e_s: FloatArray
    e_a: FloatArray
    e_l: FloatArray

    @classmethod
    def from_axes(cls, origin_mm: ArrayLike, *, cranial: ArrayLike, anterior: ArrayLike) -> DiscFrame:
        """Frame with e_s along `cranial` and e_a as near to `anterior` as a right angle allows.

        Both are LPS directions of any non-zero length; they must not be parallel.
        """
        e_s = _unit(cranial)
        toward = np.asarray(anterior, dtype=np.float64)
        e_a = _unit(toward - (toward @ e_s) * e_s)
        return cls(np.asarray(origin_mm, dtype=np.float64), e_s, e_a, np.cross(e_s, e_a))

    @property
    def axes(self) -> FloatArray:
        """(3, 3) matrix whose columns are e_s, e_a, e_l."""
        return np.stack([self.e_s, self.e_a, self.e_l], axis=1)

    def to_lps(self, sal_mm: ArrayLike) -> FloatArray:
        """LPS mm (..., 3) of frame coordinates (s, a, l) in mm (..., 3)."""
        return np.asarray(self.origin_mm + np.asarray(sal_mm, dtype=np.float64) @ self.axes.T)

    def from_lps(self, lps_mm: ArrayLike) -> FloatArray:
        """Frame coordinates (s, a, l) in mm (..., 3) of LPS points in mm (..., 3)."""
        return np.asarray((np.asarray(lps_mm, dtype=np.float64) - self.origin_mm) @ self.axes)

    def moved(self, sal_mm: ArrayLike) -> DiscFrame:
        """The same axes with the origin moved by (s, a, l) mm."""
        return DiscFrame(self.to_lps(sal_mm), self.e_s, self.e_a, self.e_l)


def _unit(vector: ArrayLike) -> FloatArray:
    """`vector` at length 1; ValueError where it has none."""
    v = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(v))
    if not length > 1e-9:
        raise ValueError("an axis of a disc frame has length 0: its two directions are parallel or zero")
    return v / length
