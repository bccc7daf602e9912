"""Shapes of vertebral bodies in their own rigid frames: outline, endplates, corners.

A vertebra's frame has its origin in the middle of the body and the axes s (cranial), n (posterior), w (left).
Every surface is an explicit function of these coordinates, so that measurements can be taken from it exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Array = NDArray[Any]


@dataclass(frozen=True)
class Frame:
    """A rigid frame: `origin` (3,) LPS mm, `axes` (3, 3) with the unit vectors of s, n, w as rows."""

    origin: F64
    axes: F64

    def local(self, points: F64) -> F64:
        """(..., 3) LPS mm -> (..., 3) coordinates (s, n, w) in mm."""
        return np.asarray((points - self.origin) @ self.axes.T)

    def world(self, local: F64) -> F64:
        """(..., 3) coordinates (s, n, w) in mm -> (..., 3) LPS mm."""
        return np.asarray(self.origin + local @ self.axes)


@dataclass(frozen=True)
class BodyShape:
    """One vertebral body. Lengths in mm; the rest are ratios.

    `wedge` > 0 lowers the anterior edge; `taper` > 0 widens the body towards its upper end; `waist` narrows
    its middle; `lip` widens both ends (spondylophytes); `notch` hollows the posterior wall in the midline;
    `exponent` of the superellipse outline; `concave_up` and `concave_down` are the depths of the endplates.
    """

    half_height: float
    half_depth: float
    half_width: float
    wedge: float
    taper: float
    waist: float
    lip: float
    notch: float
    exponent: float
    concave_up: float
    concave_down: float

    def radius(self, s: Array, n: Array, w: Array) -> Array:
        """1 on the outline of a body without waist, 0 on its axis."""
        scale = 1 + self.taper * np.clip(s / self.half_height, -1.3, 1.3)
        across = n / (self.half_depth * scale)
        side = w / (self.half_width * scale)
        across = across + np.where(across > 0, self.notch * np.clip(1 - (side / 0.6) ** 2, 0, 1), 0)
        power = np.abs(across) ** self.exponent + np.abs(side) ** self.exponent
        return np.asarray(power ** (1 / self.exponent))

    def wall(self, s: Array) -> Array:
        """Radius of the body's wall at height `s`."""
        relative = np.clip(np.abs(s) / self.half_height, 0, 1)
        return np.asarray(1 - self.waist * (1 - relative**2) + self.lip * np.clip(relative - 0.75, 0, 1) * 4)

    def _edge(self, n: Array) -> Array:
        return np.asarray(self.half_height * (1 + self.wedge * np.clip(n / self.half_depth, -1.4, 1.4)))

    def _hollow(self, n: Array, w: Array) -> Array:
        across, side = n / self.half_depth, w / self.half_width
        return np.asarray(np.clip(1 - across**2, 0, 1) * np.clip(1 - side**2, 0, 1))

    def top(self, n: Array, w: Array) -> Array:
        """`s` of the upper endplate's surface."""
        return np.asarray(self._edge(n) - self.concave_up * self._hollow(n, w))

    def bottom(self, n: Array, w: Array) -> Array:
        """`s` of the lower endplate's surface (negative)."""
        return np.asarray(self.concave_down * self._hollow(n, w) - self._edge(n))

    def corner(self, *, upper: bool, posterior: bool) -> F64:
        """(s, n, w) of an edge of the body in the midsagittal plane."""
        scale = self.half_depth * (1 + (self.taper if upper else -self.taper))
        n = np.array(scale * (1 + self.lip - self.notch) if posterior else -scale * (1 + self.lip))
        middle = np.zeros(())
        s = self.top(n, middle) if upper else self.bottom(n, middle)
        return np.array([float(s), float(n), 0.0])
