"""Clean-up of a class map: specks go, and of what is left only the spinal column stays.

Connectivity is 26 throughout: voxels that touch at a face, an edge or a corner belong together. A network's
thin structures (a collapsed disc, an oblique endplate) hang together by corners, and nnU-Net's own
post-processing uses the same. "Under 50 voxels" is counted on the input grid, as the paper does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinecore.geometry import Affine, spacing_zyx
from spinecore.labels import Class

MIN_VOXELS = 50
COLUMN_GAP_MM = 8.0
TOUCHING_26 = np.ones((3, 3, 3), dtype=bool)

ClassMap = NDArray[np.uint8]
Window = tuple[slice, ...]


@dataclass(frozen=True)
class Cleaned:
    """A cleaned class map (Z, Y, X) uint8 and what was taken out of it.

    specks: components under the size limit. islands: components far from the column; island_voxels: their
    voxels together.
    """

    classes: ClassMap
    specks: int
    islands: int
    island_voxels: int


def clean(classes: ClassMap, affine: Affine) -> Cleaned:
    """Drop specks class by class, then everything away from the largest connected column.

    classes: (Z, Y, X) uint8 of `labels.Class`. An empty map comes back empty.
    """
    despeckled, specks = remove_small(classes, min_voxels=MIN_VOXELS)
    column = column_mask(despeckled > 0, spacing_zyx(affine))
    column &= ~beside_main_canal(np.where(column, despeckled, 0) == Class.CANAL, affine)
    outside = (despeckled > 0) & ~column
    islands = int(ndimage.label(outside, TOUCHING_26)[1]) if outside.any() else 0
    return Cleaned(np.where(column, despeckled, 0).astype(np.uint8), specks, islands, int(outside.sum()))


def remove_small(classes: ClassMap, *, min_voxels: int) -> tuple[ClassMap, int]:
    """Set components of one class with fewer than `min_voxels` voxels to background; also their count."""
    result = classes.copy()
    window = bounding_window(classes > 0)
    removed = 0
    for kind in Class:
        mask = classes[window] == kind
        if kind == Class.BACKGROUND or not mask.any():
            continue
        components, _ = ndimage.label(mask, TOUCHING_26)
        small = np.bincount(components.ravel()) < min_voxels
        small[0] = False
        removed += int(small.sum())
        result[window][small[components]] = Class.BACKGROUND
    return result, removed


def column_mask(spine: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """The largest part of `spine` (Z, Y, X) by volume, parts closer than `COLUMN_GAP_MM` counted as one.

    Nearness is judged on a coarse grid, so it does not depend on the voxels' size or shape.
    """
    window = bounding_window(spine)
    index = np.argwhere(spine[window])
    if not len(index):
        return np.zeros_like(spine)
    cell = (index * np.asarray(spacing_mm) // (COLUMN_GAP_MM / 2)).astype(np.intp)
    coarse = np.zeros(cell.max(axis=0) + 1, dtype=bool)
    coarse[tuple(cell.T)] = True
    groups, _ = ndimage.label(ndimage.binary_dilation(coarse, TOUCHING_26), TOUCHING_26)
    group = groups[tuple(cell.T)]
    result = np.zeros_like(spine)
    kept = index[group == np.argmax(np.bincount(group))]
    result[window][tuple(kept.T)] = True
    return result


def beside_main_canal(canal: NDArray[np.bool_], affine: Affine) -> NDArray[np.bool_]:
    """Parts of `canal` (Z, Y, X) at the same heights as its largest part: a spine has one canal.

    A part mostly above or below the largest one is its continuation past a gap and does not count.
    """
    window = bounding_window(canal)
    parts, count = ndimage.label(canal[window], TOUCHING_26)
    result = np.zeros_like(canal)
    if count < 2:
        return result
    index = np.argwhere(parts)
    part = parts[tuple(index.T)]
    height = index @ affine[2, 2::-1]
    main = part == np.argmax(np.bincount(part))
    level = (height >= height[main].min()) & (height <= height[main].max())
    share = np.bincount(part, weights=level) / np.maximum(np.bincount(part), 1)
    beside = (share > 0.5) & (np.arange(len(share)) != part[main][0])
    beside[0] = False
    result[window] = beside[parts]
    return result


def bounding_window(mask: NDArray[np.bool_], *, margin: int = 0) -> Window:
    """Slices of the smallest box around `mask`, `margin` voxels wider where the array allows."""
    window = []
    for axis, size in enumerate(mask.shape):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        first, last = (int(hit[0]) - margin, int(hit[-1]) + margin) if len(hit) else (0, -1)
        window.append(slice(max(first, 0), min(last + 1, size)))
    return tuple(window)
