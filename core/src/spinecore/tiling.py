"""Sliding window: tiles, Gaussian importance, mirroring and merging, as nnU-Net 2.8.1's predictor does it.

Sums of logits and weights are float16, rounded after every tile, as there (see `kernels`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from spinecore.errors import ModelError
from spinecore.kernels import KERNELS
from spinecore.workers import each_of, parts_of

Triple = tuple[int, int, int]
Single = npt.NDArray[np.float32]
Half = npt.NDArray[np.float16]
Network = Callable[[Single], npt.NDArray[np.floating[Any]]]
"""A network: patches (B, C, *patch) float32 -> logits (B, K, *patch) float16 or float32."""

_SIGMA_SCALE = 1 / 8
_IMPORTANCE_PEAK = 10.0
_ONES = np.ones((1, 1, 1), dtype=np.float32)
_NOT_FINITE = (
    "The network's logits hold NaN or infinite values, or weighted sums of them pass float16's 65504. A "
    "reduced-precision engine whose normalisation layers do not run in float32 does that; "
    "use the float32 one."
)


def tile_starts(size: int, patch: int, step_size: float) -> list[int]:
    """First voxels of the tiles along one axis: at most ``patch * step_size`` apart, evenly spread, rounded.

    >>> tile_starts(110, 64, 0.5)
    [0, 23, 46]
    """
    count = int(np.ceil((size - patch) / (patch * step_size))) + 1
    if count == 1:
        return [0]
    step = (size - patch) / (count - 1)
    return [int(np.round(step * number)) for number in range(count)]


def tile_origins(shape: Triple, patch: Triple, step_size: float) -> list[Triple]:
    """Origins (z, y, x) of all tiles of a volume at least as large as the patch, last axis fastest."""
    sides = zip(shape, patch, strict=True)
    z, y, x = (tile_starts(size, side, step_size) for size, side in sides)
    return list(itertools.product(z, y, x))


@lru_cache(maxsize=4)
def gaussian_importance(patch: Triple) -> Single:
    """Weight of each voxel of a patch: Gaussian, sigma 1/8 of each side, peak 10, nowhere 0.

    float32 holding float16's values; read-only.
    """
    peak = np.zeros(patch)
    peak[tuple(side // 2 for side in patch)] = 1.0
    weights = ndimage.gaussian_filter(peak, [side * _SIGMA_SCALE for side in patch], mode="constant")
    half = (weights / (weights.max() / _IMPORTANCE_PEAK)).astype(np.float16)
    half[half == 0] = half[half > 0].min()
    importance: Single = half.astype(np.float32)
    importance.flags.writeable = False
    return importance


def padding(shape: Sequence[int], patch: Triple) -> list[tuple[int, int]]:
    """Voxels to add (before, after) per axis to reach the patch size: centred, the odd one after."""
    missing = (max(0, side - size) for size, side in zip(shape, patch, strict=True))
    return [(n // 2, n - n // 2) for n in missing]


class SlidingWindow:
    """Cuts a prepared volume into patches and merges their logits.

    >>> window = SlidingWindow(data, patch=(128, 128, 64), step_size=0.5, num_outputs=6)
    >>> for origin, patch in window:
    ...     window.add(origin, network(patch[None])[0])
    >>> logits = window.logits()

    Parameters
    ----------
    data : (C, Z, Y, X) float32
        Padded with zeros to the patch size where it is smaller.
    patch : tile size (z, y, x) in voxels
    step_size : step between tiles as a part of the patch, above 0, at most 1
    num_outputs : channels of the logits
    """

    def __init__(self, data: Single, *, patch: Triple, step_size: float, num_outputs: int) -> None:
        pads = padding(data.shape[1:], patch)
        self.inside = tuple(slice(p[0], p[0] + n) for p, n in zip(pads, data.shape[1:], strict=True))
        self._data = data  # padded patch by patch: a volume with fewer slices than the patch is held once
        self.patch_size = patch
        z, y, x = (n + sum(pad) for n, pad in zip(data.shape[1:], pads, strict=True))
        self.shape: Triple = (z, y, x)
        self.origins = tile_origins(self.shape, patch, step_size)
        self._merged: list[Triple] = []
        # Filled, not np.zeros: numpy asks for huge pages then, and merging takes half the time.
        self._sums = np.full((num_outputs, *data.shape[1:]), 0, dtype=np.float16)
        self._weights = np.zeros((1, *data.shape[1:]), dtype=np.float16)
        self._finite = True

    def __len__(self) -> int:
        return len(self.origins)

    def __iter__(self) -> Iterator[tuple[Triple, Single]]:
        """Yield every tile's origin and its patch (C, *patch)."""
        for origin in self.origins:
            yield origin, self.patches([origin])[0]

    def patches(self, origins: Sequence[Triple]) -> Single:
        """The patches (B, C, *patch) of the tiles at `origins`, copies."""
        patches = np.zeros((len(origins), len(self._data), *self.patch_size), dtype=np.float32)
        for patch, origin in zip(patches, origins, strict=True):
            here, kept = self._within(origin)
            patch[(slice(None), *kept)] = self._data[(slice(None), *here)]
        return patches

    def add(self, origin: Triple, logits: npt.NDArray[np.floating[Any]]) -> None:
        """Merge the logits (K, *patch) of the tile at `origin`. Merge tiles in order for repeatable sums."""
        expected = (len(self._sums), *self.patch_size)
        if logits.shape != expected:
            raise ModelError(f"The network answered with shape {logits.shape}; {expected} was expected.")
        here, kept = self._within(origin)
        importance = gaussian_importance(self.patch_size)[kept]
        sums, answer = self._sums[(slice(None), *here)], logits[(slice(None), *kept)]
        # On one thread: milliseconds, bound by memory. `logits` reports what is not finite.
        self._finite &= KERNELS.merge(sums, answer, importance)
        KERNELS.merge(self._weights[(slice(None), *here)], importance[None], _ONES)
        self._merged.append(origin)

    def foreground(self, *, regions: bool) -> npt.NDArray[np.bool_]:
        """Where something beats the background in what was merged so far, (Z, Y, X) on the grid of `data`."""
        return foreground(self._sums, regions=regions)

    def logits(self) -> Half:
        """The merged logits (K, Z, Y, X) float16 on the grid of `data`.

        Call once, when all tiles are in; what none of them covers has logits 0, which is background.
        ModelError if the network gave NaN or infinite values, or if a sum of weighted logits passed 65504,
        float16's largest value, where nnU-Net too goes on with infinity.
        """
        boxes = [self._within(origin)[0] for origin in self._merged]
        covered = tuple(
            slice(min(each.start for each in sides), max(each.stop for each in sides))
            for sides in zip(*boxes, strict=True)
        )  # there is nothing to do outside the box around the merged tiles
        weights = self._weights[0][covered]
        np.copyto(weights, 1, where=weights.view(np.uint16) == 0)
        if not (self._finite and _divide(self._sums[(slice(None), *covered)], weights)):
            raise ModelError(_NOT_FINITE)
        return self._sums

    def _within(self, origin: Triple) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """What of the tile at `origin` is not padding: in voxels of `data`, and in those of the tile."""
        here, kept = [], []
        for tile, inside in zip(self._tile(origin), self.inside, strict=True):
            start, stop = max(tile.start, inside.start), min(tile.stop, inside.stop)
            here.append(slice(start - inside.start, stop - inside.start))
            kept.append(slice(start - tile.start, stop - tile.start))
        return tuple(here), tuple(kept)

    def _tile(self, origin: Triple) -> tuple[slice, ...]:
        return tuple(slice(start, start + side) for start, side in zip(origin, self.patch_size, strict=True))


def foreground(logits: Half, *, regions: bool) -> npt.NDArray[np.bool_]:
    """Where something beats the background in `logits` (K, Z, Y, X): (Z, Y, X). Regions beat 0."""
    parts = parts_of(logits.shape[1])
    found = each_of(lambda part: KERNELS.foreground(logits[:, part], regions=regions), parts)
    return np.concatenate(found)


def _divide(sums: Half, weights: Half) -> bool:
    """Turn `sums` (K, Z, Y, X) into means, on threads; False if one is not finite."""
    return all(each_of(lambda part: KERNELS.divide(sums[part], weights), parts_of(len(sums))))


def mean_of_folds(logits: Half, folds: int) -> Half:
    """(K, Z, Y, X) from the merged logits of several folds (folds · K, Z, Y, X), which are overwritten.

    Added fold by fold and divided, each time rounded to float16, as nnU-Net's predictor does. Averaging
    before merging is not the same where the folds' logits cancel out.
    """
    outputs = len(logits) // folds
    total = logits[:outputs]
    if folds == 1:
        return total
    count = np.full((1, 1, 1), folds, dtype=np.float16)

    def average(part: slice) -> bool:
        more = (logits[start : start + outputs] for start in range(outputs, len(logits), outputs))
        finite = [KERNELS.merge(total[part], fold[part], _ONES) for fold in more]
        return all(finite) and KERNELS.divide(total[part], count)

    if not all(each_of(average, parts_of(outputs))):
        raise ModelError(_NOT_FINITE)
    return total


def predict_mirrored(
    network: Network, patches: Single, mirror_axes: Sequence[int]
) -> npt.NDArray[np.floating[Any]]:
    """Logits (B, K, *patch) of `patches`, averaged over all mirrorings along `mirror_axes` in float32.

    `mirror_axes` are spatial axes (0, 1, 2); none means the plain prediction, as the network gives it.
    """
    plain = network(patches)
    spatial = [axis + 2 for axis in mirror_axes]
    flips = [f for n in range(1, len(spatial) + 1) for f in itertools.combinations(spatial, n)]
    if not flips:
        return plain
    total = np.array(plain, dtype=np.float32)
    for axes in flips:
        total += np.flip(network(np.ascontiguousarray(np.flip(patches, axes))), axes)
    total /= len(flips) + 1
    return total
