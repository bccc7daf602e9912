"""Changing the grid of an array as nnU-Net 2.8.1 does it, along one axis at a time.

nnU-Net resamples with ``skimage.transform.resize`` (mode ``edge``, no anti-aliasing), which is
``scipy.ndimage.zoom`` in grid mode followed by clipping to the input's range. Splines are separable: what
zoom does along one axis is a linear map, here a sparse (n_out, n_in) matrix got by zooming the unit vectors.
Applying the three matrices in turn gives the same numbers to rounding, far faster than 64 taps per voxel,
and lets a caller compute just a part of the fine grid.

If one axis is much coarser than the others (max/min spacing > 3, the current spacing deciding before the
new), it is done apart: each slice in its plane first, then nnU-Net's ``order_z`` across the slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from spinecore.network_spec import Resampling
from spinecore.workers import for_each

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]
Operator = Any  # scipy.sparse.csr_array (n_out, n_in); scipy ships no types
Floats = npt.NDArray[np.floating[Any]]
FloatT = TypeVar("FloatT", np.float32, np.float64)

_NEGLIGIBLE = 1e-15
"""Spline weights decay by 0.27 per voxel; below this they vanish in double precision."""

COLUMNS_AT_ONCE = 512
"""So many columns of a product stay in the processor's cache; each block is a thread's work. Under 4 MiB,
from which on the server gives memory back at once and has to ask for it anew."""


def target_shape(shape: Sequence[int], *, spacing_mm: Spacing, new_spacing_mm: Spacing) -> Triple:
    """Grid size after resampling: ``round(old / new * n)`` per axis, ties to even, as nnU-Net's."""
    ratios = zip(spacing_mm, new_spacing_mm, shape, strict=True)
    z, y, x = (max(1, round(old / new * n)) for old, new, n in ratios)
    return z, y, x


def separate_axis(resampling: Resampling, *, spacing_mm: Spacing, new_spacing_mm: Spacing) -> int | None:
    """The low-resolution axis that is resampled apart from the plane, or None.

    Two axes sharing the largest spacing turn it off (nnU-Net's ``determine_do_sep_z_and_axis``).
    """
    if resampling.force_separate_z is None:
        limit = resampling.anisotropy_threshold
        coarse = [s for s in (spacing_mm, new_spacing_mm) if max(s) / min(s) > limit]
        deciding = coarse[0] if coarse else None
    else:
        deciding = spacing_mm if resampling.force_separate_z else None
    if deciding is None or deciding.count(max(deciding)) > 1:
        return None
    return deciding.index(max(deciding))


@lru_cache(maxsize=64)
def axis_operator(n_in: int, n_out: int, order: int) -> Operator:
    """What resizing by a spline of `order` does along one axis: sparse (n_out, n_in) float64."""
    unit = np.eye(n_in)
    zoomed = ndimage.zoom(unit, (n_out / n_in, 1.0), order=order, mode="nearest", grid_mode=True)
    zoomed[np.abs(zoomed) < _NEGLIGIBLE] = 0.0
    return sparse.csr_array(zoomed)


@lru_cache(maxsize=64)
def slice_operator(n_in: int, n_out: int, kind: str, order_z: int) -> Operator:
    """What happens across the slices of an axis done apart: sparse (n_out, n_in) float64.

    Nearest slice for ``"torch"`` (nearest-exact) and for order 0, otherwise a spline.
    """
    if kind == "default" and order_z > 0:
        return axis_operator(n_in, n_out, order_z)
    index = nearest_slices(n_in, n_out, kind)
    return sparse.csr_array((np.ones(n_out), (np.arange(n_out), index)), shape=(n_out, n_in))


def nearest_slices(n_in: int, n_out: int, kind: str) -> npt.NDArray[np.intp]:
    """Input slice taken for each output slice, (n_out,).

    Ties fall as in the reference: ``"default"`` computes in double as ``map_coordinates`` of order 0,
    ``"torch"`` in single with a fused multiply-add as ``interpolate(mode="nearest-exact")``.
    """
    centres = np.arange(n_out) + 0.5
    if kind == "torch":
        scale = np.float64(np.float32(n_in) / np.float32(n_out))
        source = (scale * centres - 0.5).astype(np.float32)
    else:
        source = n_in / n_out * centres - 0.5
    half = source.dtype.type(0.5)
    index: npt.NDArray[np.intp] = np.floor(np.clip(source, 0, n_in - 1) + half).astype(np.intp)
    return index


def axis_operators(
    shape: Triple, new_shape: Triple, resampling: Resampling, *, apart: int | None
) -> list[Operator]:
    """The sparse operator of each axis from `shape` to `new_shape`; `apart` is the axis done apart."""
    order = resampling.order if resampling.kind == "default" else 1
    return [
        slice_operator(n_in, n_out, resampling.kind, resampling.order_z)
        if axis == apart
        else axis_operator(n_in, n_out, order)
        for axis, (n_in, n_out) in enumerate(zip(shape, new_shape, strict=True))
    ]


def apply_along(operator: Operator, array: npt.NDArray[FloatT], axis: int) -> npt.NDArray[FloatT]:
    """Apply a sparse (n_out, n_in) operator along one axis of `array`; the operator's dtype should match."""
    moved = np.moveaxis(array, axis, 0)
    flat = np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    result: npt.NDArray[FloatT] = (operator @ flat).reshape(-1, *moved.shape[1:])
    return np.moveaxis(result, 0, axis)


def apply_on_threads(operator: Operator, array: Floats, axis: int) -> Floats:
    """`apply_along` for one large array, the same bits: block by block of its columns, on threads."""
    moved = np.moveaxis(array, axis, 0)
    flat = moved.reshape(moved.shape[0], -1)
    result = np.empty((operator.shape[0], flat.shape[1]), dtype=array.dtype)

    def work(start: int) -> None:
        here = slice(start, start + COLUMNS_AT_ONCE)
        result[:, here] = operator @ np.ascontiguousarray(flat[:, here])

    for_each(work, range(0, flat.shape[1], COLUMNS_AT_ONCE))
    return np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, axis)


def apply_all(operators: Sequence[Operator], array: npt.NDArray[FloatT]) -> npt.NDArray[FloatT]:
    """Apply one operator per axis of `array` (Z, Y, X), the most shrinking first; None skips an axis."""
    for axis in _most_shrinking_first(operators):
        array = apply_along(operators[axis], array, axis)
    return array


def _most_shrinking_first(operators: Sequence[Operator]) -> list[int]:
    growth = {a: op.shape[0] / op.shape[1] for a, op in enumerate(operators) if op is not None}
    return sorted(growth, key=lambda a: growth[a])


def resample(
    array: npt.NDArray[np.float32],
    new_shape: Triple,
    *,
    spacing_mm: Spacing,
    new_spacing_mm: Spacing,
    resampling: Resampling,
) -> npt.NDArray[np.float32]:
    """Resample `array` (C, Z, Y, X) to `new_shape`: nnU-Net's resampling function for `resampling`.

    An array that already has `new_shape` is returned as it is.
    """
    shape = array.shape[1:]
    if shape == tuple(new_shape):
        return array
    apart = separate_axis(resampling, spacing_mm=spacing_mm, new_spacing_mm=new_spacing_mm)
    operators = axis_operators((shape[0], shape[1], shape[2]), new_shape, resampling, apart=apart)
    clipped = resampling.kind == "default" and resampling.order > 1
    result = np.empty((len(array), *new_shape), dtype=np.float32)
    for channel, out in zip(array, result, strict=True):
        out[...] = _resample_channel(channel.astype(np.float64), operators, apart=apart, clipped=clipped)
    return result


def _resample_channel(
    channel: Floats, operators: list[Operator], *, apart: int | None, clipped: bool
) -> Floats:
    """One channel (Z, Y, X) float64 through its operators: in the plane, clip, then across the slices."""
    in_plane = [None if axis == apart else operator for axis, operator in enumerate(operators)]
    result = channel
    for axis in _most_shrinking_first(in_plane):
        result = apply_on_threads(in_plane[axis], result, axis)
    if clipped:
        plane = None if apart is None else tuple(axis for axis in range(3) if axis != apart)
        low, high = channel.min(axis=plane, keepdims=True), channel.max(axis=plane, keepdims=True)
        result = np.clip(result, low, high)
    return result if apart is None else apply_on_threads(operators[apart], result, apart)
