"""Which tiles are worth running: a coarse pass over the whole volume, for the mode ``fast``.

The coarse pass covers every voxel once, where nnU-Net's step of half a patch covers most of them eight times.
It is run by a scout, a smaller network that was trained for the same structures; without one by the network
itself, and then its tiles count as run. Of the tiles that are left out, none is missed by anything that the
coarse pass found: all of it lies well inside some tile that runs, at the place where nnU-Net puts that tile.
What no tile covers counts as background. Where the coarse pass finds nothing, all tiles run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from spinecore.errors import ModelError
from spinecore.network_spec import NetworkSpec
from spinecore.plan import Prepared, Triple
from spinecore.resampling import Operator, apply_all
from spinecore.tiling import Network, SlidingWindow, tile_starts

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

MARGIN_MM = 20.0
"""So deep inside a tile that runs lies all that was found; at the volume's border there is nothing beyond."""
MIN_FOUND_MM3 = 2000.0
"""What is smaller calls for no tile: a disc has twice that."""
_BLOCK = 4
"""Voxels along a block; what was found is looked at block by block."""
_COVER_STEP = 1.0
_CONNECTED = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Scout:
    """The network of the coarse pass: what it must be fed, and how to run it."""

    spec: NetworkSpec
    network: Network


@dataclass(frozen=True, eq=False)
class Found:
    """What the coarse pass found.

    Attributes
    ----------
    points : (N, 3) places, in voxels of the network's padded grid
    slack : how far from a point something may be that it stands for, in voxels per axis
    tiles : that the scout ran
    """

    points: Points
    slack: Points
    tiles: int = 0


def check_scout(scout: NetworkSpec, spec: NetworkSpec) -> None:
    """ModelError where `scout` cannot see what was prepared for the network of `spec`."""
    alike = ("reader", "transpose_forward")
    different = [name for name in alike if getattr(scout, name) != getattr(spec, name)]
    ours, theirs = ([(c.normalization, c.use_mask) for c in each.channels] for each in (scout, spec))
    if ours != theirs:
        different.append("normalisation")
    if different:
        raise ModelError(
            f"The scout {scout.name!r} differs from the network {spec.name!r} in {', '.join(different)}; "
            "it must see volumes prepared in the same way."
        )


def scouted(prepared: Prepared, scout: Scout, *, before: Sequence[int]) -> Found:
    """Let the scout look at the whole volume; `before` are the voxels of padding before its first ones."""
    spec, plan = scout.spec, prepared.plan
    ratio = np.divide(spec.spacing_mm, plan.network_spacing_mm)
    data = prepared.data
    if not np.all(ratio == 1):
        means = [cell_means(n, float(r)) for n, r in zip(plan.network_shape, ratio, strict=True)]
        data = np.stack([apply_all(means, channel) for channel in data])
    window = SlidingWindow(
        data, patch=spec.patch_size, step_size=_COVER_STEP, num_outputs=spec.network_channels
    )
    for origin in window.origins:
        window.add(origin, scout.network(window.patches([origin]))[0])
    found = without_specks(window.foreground(regions=spec.has_regions), spec.spacing_mm)
    return Found(_points(found, ratio, before), (_BLOCK + ratio) / 2, len(window))


def seen(window: SlidingWindow, spec: NetworkSpec) -> Found:
    """What the network itself has found in the tiles that were merged so far."""
    found = without_specks(window.foreground(regions=spec.has_regions), spec.spacing_mm)
    before = [each.start for each in window.inside]
    return Found(_points(found, np.ones(3), before), np.full(3, (_BLOCK + 1) / 2))


def _points(found: Mask, ratio: Points, before: Sequence[int]) -> Points:
    """Centres of the blocks that hold something, where a cell of `found` has `ratio` voxels."""
    voxels = (np.argwhere(found) + 0.5) * ratio + np.asarray(before)
    blocks: Points = (np.unique(voxels // _BLOCK, axis=0) + 0.5) * _BLOCK
    return blocks


def without_specks(found: Mask, spacing_mm: Sequence[float]) -> Mask:
    """`found` without connected parts smaller than `MIN_FOUND_MM3`."""
    parts, count = ndimage.label(found, structure=_CONNECTED)
    sizes = np.bincount(parts.reshape(-1), minlength=count + 1) * math.prod(spacing_mm)
    large = sizes >= MIN_FOUND_MM3
    large[0] = False
    kept: Mask = large[parts]
    return kept


def cover(window: SlidingWindow) -> list[Triple]:
    """The fewest of a window's tiles along each axis that together cover the volume."""
    axes = []
    for axis, side in enumerate(window.patch_size):
        starts = sorted({origin[axis] for origin in window.origins})
        wanted = tile_starts(window.shape[axis], side, _COVER_STEP)
        axes.append(_covering(starts, side, wanted[-1]))
    return [o for o in window.origins if all(s in starts for s, starts in zip(o, axes, strict=True))]


def _covering(starts: Sequence[int], side: int, last: int) -> set[int]:
    """Out of `starts`, from 0 on each time the farthest that leaves no gap, to `last`."""
    chosen = {0}
    while (here := max(chosen)) < last:
        chosen.add(max(start for start in starts if start <= here + side))
    return chosen


def tiles_for(
    found: Found, window: SlidingWindow, *, margin: Points, ran: Sequence[Triple] = ()
) -> list[Triple]:
    """Tiles of `window` to run beside those that `ran`, so that all that was found lies well inside one.

    `margin` is what well inside means, in voxels per axis. The tile that covers most of what is left is
    taken, time and again, and of equal ones that in whose middle it lies. All tiles where nothing was found.
    """
    if not len(found.points):
        return [origin for origin in window.origins if origin not in ran]
    starts, sides = np.array(window.origins, dtype=float), np.array(window.patch_size, dtype=float)
    deep = _depth(found, starts, sides, np.array(window.shape), margin)
    holds = (deep >= 0) | (deep >= deep.max(axis=0) - 1e-9)
    offset = (found.points - (starts[:, None] + sides / 2)) / sides
    central = -(offset**2).sum(axis=2)
    left = ~holds[[window.origins.index(origin) for origin in ran]].any(axis=0)
    chosen: list[Triple] = []
    while left.any():
        gains = (holds & left).sum(axis=1)
        best = max(np.flatnonzero(gains == gains.max()), key=lambda t: central[t][holds[t] & left].mean())
        chosen.append(window.origins[best])
        left &= ~holds[best]
    return sorted(chosen)


def _depth(found: Found, starts: Points, sides: Points, shape: Points, margin: Points) -> Points:
    """How much deeper than the margin each point lies inside each tile, (tiles, points), in margins.

    The volume's own border is no border of a tile. Below 0 it lies less deep.
    """
    needed = margin + found.slack
    below = found.points - starts[:, None]
    above = (starts + sides)[:, None] - found.points
    below[np.broadcast_to((starts == 0)[:, None], below.shape) & (below >= 0)] = np.inf
    above[np.broadcast_to((starts + sides >= shape)[:, None], above.shape) & (above >= 0)] = np.inf
    depth: Points = ((np.minimum(below, above) - needed) / needed).min(axis=2)
    return depth


@lru_cache(maxsize=64)
def cell_means(n_in: int, voxels: float) -> Operator:
    """Means over cells of so many voxels (with fractions) along one axis: sparse (n_out, n_in) float32.

    >>> cell_means(3, 2.0).toarray()
    array([[0.5, 0.5, 0. ],
           [0. , 0. , 1. ]], dtype=float32)
    """
    edges = np.arange(math.ceil(n_in / voxels) + 1) * voxels
    first = np.arange(n_in)
    overlap = np.minimum(edges[1:, None], first + 1) - np.maximum(edges[:-1, None], first)
    weights = np.clip(overlap, 0.0, None)
    return sparse.csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))
