"""The arithmetic on float16 that segmentation spends its time in: compiled, or else by numpy.

nnU-Net sums and resamples logits in float16, so near-equal classes tie or swap as float16's rounding has it;
at the rim of a patch, where the Gaussian weight is below 6e-5, only a few bits are left. The same labels need
the same roundings. `Reference` says in numpy what is meant; `Compiled` has the same done by `_kernels.c`, bit
for bit, which the build compiles where there is a C compiler (`hatch_build.py`). `KERNELS` is what is used.

Throughout: sums and logits (K, Z, Y, X), weights (Z, Y, X) or what broadcasts to it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Half = npt.NDArray[np.float16]
Single = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]

VERSION = 1
"""Of the compiled functions, as in `_kernels.c`."""
LIBRARY = Path(__file__).with_name("_kernels.so")


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

    def widen(self, halves: Half) -> Single:
        """A float32 copy of the box `halves` (Z, Y, X), contiguous."""
        return np.ascontiguousarray(halves, dtype=np.float32)

    def round(self, values: Single) -> None:
        """Round `values` to float16's, in place. They fill their memory, whatever the order of the axes."""
        with np.errstate(over="ignore"):
            values[...] = values.astype(np.float16)

    def foreground(self, logits: Half, *, regions: bool) -> Mask:
        """Where a later class of `logits` lies above the first, or a region above 0: (Z, Y, X)."""
        found = np.zeros(logits.shape[1:], dtype=bool)
        least = np.float16(0) if regions else logits[0]
        for values in logits[0 if regions else 1 :]:
            found |= values > least
        return found


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

    def widen(self, halves: Half) -> Single:
        """As `Reference.widen`."""
        halves = _rows(halves, halves.shape)
        _check(halves, np.float16)
        out = np.empty(halves.shape, dtype=np.float32)
        self._library.spine_widen(_numbers(out.shape), _at(halves), _numbers(halves.strides), _at(out))
        return out

    def round(self, values: Single) -> None:
        """As `Reference.round`."""
        if values.dtype != np.float32:
            raise TypeError(f"float32 was expected, not {values.dtype}.")
        if not values.transpose(np.argsort(values.strides)[::-1]).flags.c_contiguous:
            raise ValueError("There is other memory between the values to round.")
        self._library.spine_round(ctypes.c_int64(values.size), _at(values))

    def foreground(self, logits: Half, *, regions: bool) -> Mask:
        """As `Reference.foreground`."""
        logits = _rows(logits, logits.shape)
        _check(logits, np.float16)
        found = np.zeros(logits.shape[1:], dtype=bool)
        self._library.spine_foreground(
            _numbers(logits.shape), _at(logits), _numbers(logits.strides), ctypes.c_int(regions), _at(found)
        )
        return found


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
