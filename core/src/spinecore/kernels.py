"""The arithmetic on float16 that segmentation spends its time in: compiled, or else by numpy.

nnU-Net sums and resamples logits in float16, so near-equal classes tie or swap as float16's rounding has it;
at the rim of a patch, where the Gaussian weight is below 6e-5, only a few bits are left. The same labels need
the same roundings. `Reference` says in numpy what is meant; `Compiled` has the same done by `_kernels.c`, bit
for bit, which the build compiles where there is a C compiler (`hatch_build.py`). `KERNELS` is what is used.

Throughout: sums and logits (K, Z, Y, X), weights (Z, Y, X) or what broadcasts to it.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Half = npt.NDArray[np.float16]
Single = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Classes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]

SIGMOID_HALF = np.float32(2.0**-23)
"""Largest logit whose sigmoid is still 0.5 in single precision, so not above it."""
VERSION = 2
"""Of the compiled functions, as in `_kernels.c`."""
_SPARE = 8
"""The compiled code works on eight values at a time and may end that far beyond its arrays."""
LIBRARY = Path(__file__).with_name("_kernels.so")


@dataclass(frozen=True, eq=False)
class Axis:
    """How axis `number` is interpolated: every fine value from two coarse ones.

    Attributes
    ----------
    index, weight : (2, n) int32 and float32; a fine value is the sum of its two weighted coarse ones
    """

    number: int
    index: npt.NDArray[np.int32]
    weight: Single


def interpolated(box: Half, axes: Sequence[Axis], *, rounded: bool) -> Single:
    """`box` (Z, Y, X) along the axes in their order, each step in float32; `rounded` to float16 at last."""
    values = box.astype(np.float32)
    for axis in axes:
        shape = [1, 1, 1]
        shape[axis.number] = -1
        low, high = (values.take(each, axis=axis.number) for each in axis.index)
        values = low * axis.weight[0].reshape(shape) + high * axis.weight[1].reshape(shape)
    return values.astype(np.float16).astype(np.float32) if rounded else values


def winners(logits: Iterable[Single], regions: Sequence[int] | None) -> Classes:
    """The number of the largest of `logits` at each voxel, the first of equal ones, uint8.

    With `regions`, a number for each of the logits: these are painted in turn where the region's sigmoid is
    above 0.5, the rest is 0. Holds one class at a time, and changes the first.
    """
    each = iter(logits)
    best = next(each)
    classes = np.zeros(best.shape, dtype=np.uint8)
    if regions is not None:
        for number, values in zip(regions, itertools.chain([best], each), strict=True):
            classes[values > SIGMOID_HALF] = number
        return classes
    for number, values in enumerate(each, start=1):
        classes[values > best] = number
        np.maximum(best, values, out=best)
    return classes


class Reference:
    """Plain numpy: what every kernel does. Slower, since numpy converts float16 in software."""

    def merge(self, sums: Half, logits: Floats, weights: Single) -> bool:
        """``sums += logits * weights`` in place: product and sum in float32, then rounded to float16.

        `logits` (K, Z, Y, X) float16 or float32. False if a sum is no longer finite: a logit was not, or the
        sum passed 65504.
        """
        finite = True
        with np.errstate(invalid="ignore", over="ignore"):
            for total, values in zip(sums, logits, strict=True):
                total[...] = total.astype(np.float32) + values.astype(np.float32) * weights
                finite &= bool(np.isfinite(total).all())
        return finite

    def divide(self, sums: Half, weights: Half) -> bool:
        """``sums /= weights`` in place: divided in float32, rounded to float16. False if not finite."""
        finite = True
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            for total in sums:
                total[...] = total.astype(np.float32) / weights.astype(np.float32)
                finite &= bool(np.isfinite(total).all())
        return finite

    def foreground(self, logits: Half, *, regions: bool) -> Mask:
        """Where a later class of `logits` lies above the first, or a region above 0: (Z, Y, X)."""
        found = np.zeros(logits.shape[1:], dtype=bool)
        least = np.float16(0) if regions else logits[0]
        for values in logits[0 if regions else 1 :]:
            found |= values > least
        return found

    def classify(
        self, logits: Half, axes: Sequence[Axis], *, rounded: bool, regions: Sequence[int] | None
    ) -> Classes:
        """`winners` on the fine grid of the box `logits`: `interpolated` class by class."""
        return winners((interpolated(values, axes, rounded=rounded) for values in logits), regions)


class Compiled(Reference):
    """The same by the compiled library, which lets go of Python's lock meanwhile."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def merge(self, sums: Half, logits: Floats, weights: Single) -> bool:
        """As `Reference.merge`."""
        _check(sums, np.float16)
        if logits.dtype != np.float16:
            logits = logits.astype(np.float32, copy=False)
        logits, weights = _rows(logits, sums.shape), _rows(weights, sums.shape[1:])
        _check(weights, np.float32)
        bad = self._library.spine_merge(
            _numbers(sums.shape), _at(sums), _numbers(sums.strides),
            _at(logits), _numbers(logits.strides), ctypes.c_int(logits.dtype == np.float16),
            _at(weights), _numbers(weights.strides),
        )  # fmt: skip
        return not bad

    def divide(self, sums: Half, weights: Half) -> bool:
        """As `Reference.divide`."""
        _check(sums, np.float16)
        weights = _rows(weights, sums.shape[1:])
        _check(weights, np.float16)
        bad = self._library.spine_divide(
            _numbers(sums.shape), _at(sums), _numbers(sums.strides), _at(weights), _numbers(weights.strides)
        )
        return not bad

    def foreground(self, logits: Half, *, regions: bool) -> Mask:
        """As `Reference.foreground`."""
        logits = _rows(logits, logits.shape)
        _check(logits, np.float16)
        found = np.zeros(logits.shape[1:], dtype=bool)
        self._library.spine_foreground(
            _numbers(logits.shape), _at(logits), _numbers(logits.strides), ctypes.c_int(regions), _at(found)
        )
        return found

    def classify(
        self, logits: Half, axes: Sequence[Axis], *, rounded: bool, regions: Sequence[int] | None
    ) -> Classes:
        """As `Reference.classify`."""
        logits = _rows(logits, logits.shape)
        _check(logits, np.float16)
        if regions is not None and len(regions) != len(logits):
            raise ValueError(f"{len(regions)} numbers for {len(logits)} regions.")
        size, largest = list(logits.shape[1:]), logits[0].size
        for axis in axes:
            size[axis.number] = axis.index.shape[1]
            largest = max(largest, math.prod(size))
        count, most = math.prod(size), largest + _SPARE
        index = [np.ascontiguousarray(axis.index, np.int32) for axis in axes]
        weight = [np.ascontiguousarray(axis.weight, np.float32) for axis in axes]
        steps = (_AxisStep * 3)()
        for step, axis, i, w in zip(steps, axes, index, weight, strict=True):
            step.number, step.to, step.index, step.weight = (
                axis.number, i.shape[1], i.ctypes.data, w.ctypes.data
            )  # fmt: skip
        room = np.empty(2 * most + count + _SPARE, dtype=np.float32)
        classes = np.empty(count + _SPARE, dtype=np.uint8)
        self._library.spine_classify(
            _numbers(logits.shape), _at(logits), _numbers(logits.strides), steps,
            None if regions is None else bytes(regions), ctypes.c_float(float(SIGMOID_HALF)),
            ctypes.c_int(rounded), _at(room), ctypes.c_int64(most), _at(classes), ctypes.c_int64(count),
        )  # fmt: skip
        return classes[:count].reshape(size)


class _AxisStep(ctypes.Structure):
    """``struct axis`` of `_kernels.c`."""

    _fields_ = (
        ("number", ctypes.c_int64),
        ("to", ctypes.c_int64),
        ("index", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
    )


def load(path: Path = LIBRARY) -> Reference:
    """What the library at `path` offers; `Reference` where there is none, or none for this processor."""
    try:
        library = ctypes.CDLL(str(path))
        version = library.spine_kernels()
    except (OSError, AttributeError):
        return Reference()
    return Compiled(library) if version == VERSION else Reference()


def _rows(array: Any, shape: Sequence[int]) -> Any:
    """`array` as `shape`, values along the last axis side by side; copied only where they are not."""
    array = np.broadcast_to(array, shape)
    if shape[-1] < 2 or array.strides[-1] == array.itemsize:
        return array
    if not any(array.strides):  # one value everywhere: one row of it does
        return np.broadcast_to(np.ascontiguousarray(array[(0,) * (len(shape) - 1)]), shape)
    return np.ascontiguousarray(array)


def _check(array: Floats, dtype: Any) -> None:
    """The compiled code trusts what it is handed."""
    wrong = array.dtype != dtype or (array.shape[-1] > 1 and array.strides[-1] != array.itemsize)
    if wrong:
        raise TypeError(
            f"{np.dtype(dtype)} side by side along the last axis was expected, not {array.dtype}."
        )


def _at(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _numbers(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(values))(*values)


KERNELS = load()
