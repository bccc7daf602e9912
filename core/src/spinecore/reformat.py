"""Sampling a volume on a regular grid in a disc's frame.

Works for any orientation and spacing of the volume; values between voxels are trilinear. Only the part of
the volume that the grid touches is read, so a sample costs milliseconds whatever the volume's size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from spinecore.disc_frame import DiscFrame
from spinecore.geometry import Affine, AnyArray

Window = tuple[slice, ...]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SampleGrid:
    """Points at frame coordinates ``first_mm + index * step_mm``, each ordered (s, a, l); `shape` samples."""

    first_mm: tuple[float, float, float]
    step_mm: tuple[float, float, float]
    shape: tuple[int, int, int]

    @classmethod
    def spanning(
        cls,
        s_mm: tuple[float, float],
        a_mm: tuple[float, float],
        l_mm: tuple[float, float],
        *,
        step_mm: tuple[float, float, float],
    ) -> SampleGrid:
        """Grid from the first to (at least) the last coordinate along each axis, ends included."""
        ends = (s_mm, a_mm, l_mm)
        shape = [int(np.ceil((e[1] - e[0]) / d - 1e-9)) + 1 for e, d in zip(ends, step_mm, strict=True)]
        return cls((s_mm[0], a_mm[0], l_mm[0]), step_mm, (shape[0], shape[1], shape[2]))

    def coordinates(self, axis: int) -> FloatArray:
        """Coordinates in mm along one axis (0 s, 1 a, 2 l)."""
        return self.first_mm[axis] + np.arange(self.shape[axis]) * self.step_mm[axis]

    def window(self, shape: tuple[int, ...], affine: Affine, frame: DiscFrame) -> Window:
        """Slices (Z, Y, X) of the part of a volume of `shape` that the grid touches, at least one voxel.

        Where the window ends inside the volume it ends beyond the grid, so cropping changes no sample.
        """
        return self._window(shape, *self._to_voxel(affine, frame))

    def _window(self, shape: tuple[int, ...], matrix: FloatArray, offset: FloatArray) -> Window:
        reach = matrix * (np.array(self.shape) - 1)
        lowest = np.floor(offset + np.minimum(reach, 0).sum(axis=1)).astype(int) - 1
        highest = np.ceil(offset + np.maximum(reach, 0).sum(axis=1)).astype(int) + 2
        start = np.clip(lowest, 0, np.array(shape) - 1)
        stop = np.clip(highest, start + 1, shape)
        return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))

    def sample(
        self, volume: AnyArray, affine: Affine, frame: DiscFrame, *, outside: float | None = 0.0
    ) -> npt.NDArray[np.float32]:
        """Values of `volume` (Z, Y, X) at the grid's points: float32 of `shape`, axes (s, a, l).

        Beyond the centres of the volume's outermost voxels comes `outside`, or with None the nearest voxel.
        """
        matrix, offset = self._to_voxel(affine, frame)
        window = self._window(volume.shape, matrix, offset)
        sampled: npt.NDArray[np.float32] = ndimage.affine_transform(
            np.asarray(volume[window], dtype=np.float32),
            matrix,
            offset=offset - [part.start for part in window],
            output_shape=self.shape,
            output=np.float32,
            order=1,
            mode="nearest" if outside is None else "constant",
            cval=outside or 0.0,
        )
        return sampled

    def _to_voxel(self, affine: Affine, frame: DiscFrame) -> tuple[FloatArray, FloatArray]:
        """(3, 3) matrix and (3,) offset from a grid index (s, a, l) to a voxel index (z, y, x)."""
        to_xyz = np.linalg.inv(affine)
        matrix = (to_xyz[:3, :3] @ (frame.axes * self.step_mm))[::-1]
        offset = (to_xyz[:3, :3] @ frame.to_lps(self.first_mm) + to_xyz[:3, 3])[::-1]
        return np.ascontiguousarray(matrix), np.ascontiguousarray(offset)


def crop_affine(affine: Affine, window: Window) -> Affine:
    """The affine of ``volume[window]``, `window` being slices (Z, Y, X) with explicit starts."""
    cropped: Affine = affine.copy()
    start_xyz = [part.start for part in window][::-1]
    cropped[:3, 3] = affine[:3, :3] @ start_xyz + affine[:3, 3]
    return cropped
