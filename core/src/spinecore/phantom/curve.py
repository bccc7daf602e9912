"""The curve that runs through the vertebral bodies, and the coordinates (s, n, w) along it.

The curve lies in the plane x = 0 of the patient frame (LPS mm); scoliosis shifts it sideways by
`lateral_mm`, a function of the arc length. For a point (x, y, z): `s` is the arc length of the nearest
point of the curve (caudal to cranial), `n` the distance from it (posterior positive), `w = x - lateral(s)`
(left positive).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

F64 = NDArray[np.float64]
STEP_MM = 0.5


@dataclass(frozen=True)
class ColumnCurve:
    """A sampled planar curve with a lateral shift; all arrays (M,) float64, step `STEP_MM` in arc length."""

    s_mm: F64
    y_mm: F64
    z_mm: F64
    angle_rad: F64
    lateral_mm: F64

    def project(self, y_mm: F64, z_mm: F64) -> tuple[F64, F64]:
        """(s, n) in mm of points of the sagittal plane, any shape."""
        tree = cKDTree(np.stack([self.y_mm, self.z_mm], axis=1))
        points = np.stack([np.ravel(y_mm), np.ravel(z_mm)], axis=1)
        _, index = tree.query(points)
        offset_y, offset_z = points[:, 0] - self.y_mm[index], points[:, 1] - self.z_mm[index]
        sine, cosine = np.sin(self.angle_rad[index]), np.cos(self.angle_rad[index])
        s = self.s_mm[index] + offset_z * cosine - offset_y * sine
        n = offset_z * sine + offset_y * cosine
        return s.reshape(np.shape(y_mm)), n.reshape(np.shape(y_mm))

    def lateral(self, s_mm: F64) -> F64:
        """Sideways shift (left positive) in mm at arc length `s_mm`."""
        return np.interp(s_mm, self.s_mm, self.lateral_mm)

    def point(self, s_mm: float, n_mm: float = 0.0) -> F64:
        """(3,) LPS mm of the point at arc length `s_mm`, `n_mm` posterior of the curve."""
        angle = np.interp(s_mm, self.s_mm, self.angle_rad)
        y = np.interp(s_mm, self.s_mm, self.y_mm) + n_mm * np.cos(angle)
        z = np.interp(s_mm, self.s_mm, self.z_mm) + n_mm * np.sin(angle)
        return np.array([np.interp(s_mm, self.s_mm, self.lateral_mm), y, z])

    def axes(self, s_mm: float) -> F64:
        """(3, 3): rows are the directions of s, n and w at `s_mm`, orthonormal, LPS."""
        angle = np.interp(s_mm, self.s_mm, self.angle_rad)
        slope = np.interp(s_mm, self.s_mm, np.gradient(self.lateral_mm, self.s_mm))
        cranial = np.array([slope, -np.sin(angle), np.cos(angle)])
        cranial /= np.linalg.norm(cranial)
        posterior = np.array([0.0, np.cos(angle), np.sin(angle)])
        return np.stack([cranial, posterior, np.cross(posterior, cranial)])

    def course(self, z_mm: F64, sigma_mm: float) -> F64:
        """y in mm of the curve at heights `z_mm` (N,), its bends rounded off over `sigma_mm`."""
        order = np.argsort(self.z_mm)
        reach = np.arange(self.z_mm.min() - 100, self.z_mm.max() + 100, 1.0)
        y = np.interp(reach, self.z_mm[order], self.y_mm[order])
        return np.interp(z_mm, reach, gaussian_filter1d(y, sigma_mm, mode="nearest"))


def curve_from_angles(
    nodes_mm: F64, angles_rad: F64, lateral_mm: F64, *, smoothing_mm: float, margin_mm: tuple[float, float]
) -> ColumnCurve:
    """Integrate the tangent angles given at arc lengths `nodes_mm`.

    An angle of 0 points cranially, a positive one leans anteriorly. `lateral_mm` is given at the same nodes.
    """
    s = np.arange(nodes_mm[0] - margin_mm[0], nodes_mm[-1] + margin_mm[1], STEP_MM)
    sigma = smoothing_mm / STEP_MM
    angle = gaussian_filter1d(np.interp(s, nodes_mm, angles_rad), sigma, mode="nearest")
    lateral = gaussian_filter1d(np.interp(s, nodes_mm, lateral_mm), 20.0 / STEP_MM, mode="nearest")
    y = np.cumsum(-np.sin(angle)) * STEP_MM
    z = np.cumsum(np.cos(angle)) * STEP_MM
    return ColumnCurve(s, y, z, angle, lateral)
