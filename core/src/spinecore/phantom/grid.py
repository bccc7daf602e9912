"""The grid a phantom is painted on, boxes on it, and smooth noise.

Painting happens in the patient frame: arrays (Z, Y, X) whose indices grow cranially (z), posteriorly (y)
and to the left (x), so that everything that depends on the sagittal plane only is computed in two
dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinecore.phantom.shapes import Frame

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Coordinates of voxel centres along each axis, mm, growing: `x_mm` left, `y_mm` posterior, `z_mm`
    cranial."""

    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]
    z_mm: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        return len(self.z_mm), len(self.y_mm), len(self.x_mm)

    def box(
        self, frame: Frame, low: tuple[float, float, float], high: tuple[float, float, float]
    ) -> Box | None:
        """Slices (Z, Y, X) around the cuboid low…high of `frame`'s coordinates (s, n, w); None if outside."""
        corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
        points = frame.world(corners)
        slices = []
        for axis, coordinates in ((2, self.z_mm), (1, self.y_mm), (0, self.x_mm)):
            start = int(np.searchsorted(coordinates, points[:, axis].min()))
            stop = int(np.searchsorted(coordinates, points[:, axis].max(), side="right"))
            if stop <= start:
                return None
            slices.append(slice(start, stop))
        return slices[0], slices[1], slices[2]

    def local(self, frame: Frame, box: Box) -> tuple[F32, F32, F32]:
        """(s, n, w) in `frame` of the voxels of `box`, each (Z, Y, X) float32 mm."""
        z = (self.z_mm[box[0]] - frame.origin[2])[:, None, None]
        y = (self.y_mm[box[1]] - frame.origin[1])[None, :, None]
        x = (self.x_mm[box[2]] - frame.origin[0])[None, None, :]
        s, n, w = (
            (axis[2] * z + axis[1] * y).astype(np.float32) + (axis[0] * x).astype(np.float32)
            for axis in frame.axes
        )
        return s, n, w


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[float, ...]) -> F32:
    """Value noise of unit variance at its nodes, `cells` voxels between nodes, float32 of `shape`."""
    nodes = tuple(int(np.ceil(size / cell)) + 2 for size, cell in zip(shape, cells, strict=True))
    out = rng.standard_normal(nodes, dtype=np.float32)
    for axis, (size, cell) in enumerate(zip(shape, cells, strict=True)):
        position = np.arange(size) / cell + rng.uniform(0, 1)
        index = np.minimum(position.astype(np.intp), nodes[axis] - 2)
        weight = np.clip(position - index, 0, 1)
        weight = (weight * weight * (3 - 2 * weight)).astype(np.float32)
        weight = weight.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        lower = np.take(out, index, axis=axis)
        lower += weight * (np.take(out, index + 1, axis=axis) - lower)
        out = lower
    return out
