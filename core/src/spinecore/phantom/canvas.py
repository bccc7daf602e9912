"""What painting works on: the tissue and label maps and the column's coordinates on the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinecore.phantom.canal import Canal
from spinecore.phantom.column import LEVEL, Column
from spinecore.phantom.grid import F32, U8, Box, Grid
from spinecore.phantom.tissues import Tissue

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Canvas:
    """Maps being painted, (Z, Y, X) uint8, and coordinates along the column.

    `s`, `n` (Z, Y, 1) float32 mm and `level` (Z, Y, 1), the fractional vertebra index, depend on the
    sagittal plane only; `w` is (Z, Y, X). `n_far` is the horizontal distance behind the column's smoothed
    course, for skin and trunk.
    """

    column: Column
    canal: Canal
    grid: Grid
    tissue: U8
    labels: U8
    s: F32
    n: F32
    n_far: F32
    w: F32
    level: F32

    def by_level(self, values: NDArray[np.floating[Any]]) -> F32:
        """(28,) values per vertebra, interpolated to (Z, Y, 1)."""
        return np.interp(self.level, LEVEL, values).astype(np.float32)

    def paint(self, mask: Mask, tissue: Tissue) -> None:
        """Set `tissue` where `mask` (broadcastable to the map)."""
        np.copyto(self.tissue, np.uint8(tissue), where=mask)

    def paint_box(self, box: Box, mask: Mask, tissue: Tissue, label: int = 0) -> None:
        """Set `tissue` and `label` where `mask` of the shape of `box`."""
        self.tissue[box][mask] = tissue
        self.labels[box][mask] = label

    def paint_bone(self, box: Box, depth: NDArray[np.floating[Any]], rim_mm: float) -> None:
        """Paint bone `depth` > 0 mm below its surface, its outer `rim_mm` dark, where nothing is labelled."""
        tissue = np.where(depth < rim_mm, np.uint8(Tissue.POSTERIOR_RIM), np.uint8(Tissue.POSTERIOR_MARROW))
        np.copyto(self.tissue[box], tissue, where=(depth > 0) & (self.labels[box] == 0))


def blank_canvas(column: Column, canal: Canal, grid: Grid) -> Canvas:
    """A canvas of air with its coordinates worked out."""
    z, y = np.meshgrid(grid.z_mm, grid.y_mm, indexing="ij")
    s, n = column.curve.project(y, z)
    n_far = y - column.curve.course(grid.z_mm, 40.0)[:, None]
    lateral = column.curve.lateral(s)
    level = np.interp(s, column.positions_mm, LEVEL)
    s32, n32, far32, level32, lateral32 = (
        a.astype(np.float32)[:, :, None] for a in (s, n, n_far, level, lateral)
    )
    w = grid.x_mm.astype(np.float32)[None, None, :] - lateral32
    return Canvas(
        column, canal, grid, np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8),
        s32, n32, far32, w, level32,
    )  # fmt: skip
