"""From logits on the network's grid to classes on the input grid: nnU-Net 2.8.1's export step.

nnU-Net resamples all classes to the fine grid and takes the argmax of the stack, which is what its users
wait and run out of memory for. Here one class at a time is resampled, slab by slab, and only the best value
and its class are kept. Voxels whose whole neighbourhood on the coarse grid says background are left out:
linear interpolation cannot lift another class above background there, so the answer is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinecore.geometry import restore_orientation
from spinecore.kernels import KERNELS
from spinecore.network_spec import NetworkSpec, Resampling
from spinecore.plan import Plan
from spinecore.resampling import Operator, apply_all, axis_operators, resample, separate_axis
from spinecore.tiling import foreground
from spinecore.workers import for_each

Logits = npt.NDArray[np.float16]
Single = npt.NDArray[np.float32]
Classes = npt.NDArray[np.uint8]

_SLAB_VOXELS = 2**18
_SIGMOID_HALF = np.float32(2.0**-23)
"""Largest logit whose sigmoid is still 0.5 in single precision, so not above it."""


def restore_classes(logits: Logits, plan: Plan, spec: NetworkSpec) -> Classes:
    """Class map (Z, Y, X) uint8 on the input grid from `logits` (K, Z', Y', X') float16 on the network's.

    Exclusive classes: the index of the largest logit, the first of equal ones. Regions: the numbers of
    `regions_class_order` painted in turn where the region's sigmoid is above 0.5. Outside the crop: 0.
    """
    cropped = _classes_on_crop(logits.astype(np.float16, copy=False), plan, spec)
    full = np.zeros(plan.full_shape, dtype=np.uint8)
    full[tuple(slice(start, stop) for start, stop in plan.crop)] = cropped
    turned = full.transpose(plan.transpose_backward)
    restored = restore_orientation(turned, source=plan.source_orientation, target=plan.network_orientation)
    return np.ascontiguousarray(restored)


@dataclass(frozen=True)
class _Part:
    """A box of the fine grid and how to interpolate it from a box of the coarse one."""

    fine: tuple[slice, slice, slice]
    coarse: tuple[slice, slice, slice]
    operators: tuple[Operator, Operator, Operator]


def _classes_on_crop(logits: Logits, plan: Plan, spec: NetworkSpec) -> Classes:
    """Class map of the cropped box, in the transposed grid."""
    classes = np.zeros(plan.cropped_shape, dtype=np.uint8)
    how = spec.resampling_logits
    if how.kind == "default" and max(how.order, how.order_z) > 1:
        _decide((_whole(values, plan, how) for values in logits), classes, spec)
        return classes

    def decide(part: _Part) -> None:
        _decide((_interpolate(values, part, how) for values in logits), classes[part.fine], spec)

    for_each(decide, _parts(logits, plan, spec))
    return classes


def _decide(fine_logits: Iterator[Single], classes: Classes, spec: NetworkSpec) -> None:
    """Write the winning class of each voxel into `classes`, taking one class's fine logits at a time."""
    if spec.regions_class_order is not None:
        for number, values in zip(spec.regions_class_order, fine_logits, strict=True):
            classes[values > _SIGMOID_HALF] = number
        return
    best = next(fine_logits)
    for number, values in enumerate(fine_logits, start=1):
        classes[values > best] = number
        np.maximum(best, values, out=best)


def _whole(logits: Logits, plan: Plan, how: Resampling) -> Single:
    """One class on the whole fine grid, by a spline that is not linear."""
    fine: Single = resample(
        KERNELS.widen(logits)[None],
        plan.cropped_shape,
        spacing_mm=plan.network_spacing_mm,
        new_spacing_mm=plan.spacing_mm,
        resampling=how,
    )[0]
    KERNELS.round(fine)
    return fine


def _interpolate(values: Logits, part: _Part, how: Resampling) -> Single:
    """One class on the fine box of `part`. nnU-Net's default resampling, unlike torch's, gives float16."""
    fine = apply_all(part.operators, KERNELS.widen(values[part.coarse]))
    if how.kind == "default":
        KERNELS.round(fine)
    return fine


def _parts(logits: Logits, plan: Plan, spec: NetworkSpec) -> Iterator[_Part]:
    """Slabs that cover every fine voxel which may not be background."""
    apart = separate_axis(
        spec.resampling_logits, spacing_mm=plan.network_spacing_mm, new_spacing_mm=plan.spacing_mm
    )
    shape = plan.network_shape
    operators = axis_operators(shape, plan.cropped_shape, spec.resampling_logits, apart=apart)
    single = [operator.astype(np.float32) for operator in operators]
    occupied = _foreground_ranges(logits, spec)
    if occupied is None:
        return
    fine = [_touched(op, span) for op, span in zip(single, occupied, strict=True)]
    (z0, z1), (y0, y1), (x0, x1) = fine
    depth = max(1, _SLAB_VOXELS // ((y1 - y0) * (x1 - x0)))
    for start in range(z0, z1, depth):
        yield _part(single, ((start, min(start + depth, z1)), (y0, y1), (x0, x1)))


def _part(operators: list[Operator], box: tuple[tuple[int, int], ...]) -> _Part:
    """Cut the operators down to the fine `box` and to the coarse voxels it needs."""
    coarse, cut = [], []
    for operator, (start, stop) in zip(operators, box, strict=True):
        rows = operator[start:stop]
        low, high = int(rows.indices.min()), int(rows.indices.max()) + 1
        coarse.append(slice(low, high))
        cut.append(rows[:, low:high])
    z, y, x = (slice(start, stop) for start, stop in box)
    return _Part((z, y, x), (coarse[0], coarse[1], coarse[2]), (cut[0], cut[1], cut[2]))


def _touched(operator: Operator, span: tuple[int, int]) -> tuple[int, int]:
    """Half-open range of fine indices that draw on coarse indices in `span`."""
    columns = np.asarray(operator[:, span[0] : span[1]].sum(axis=1)).reshape(-1)
    rows = np.flatnonzero(columns > 0)
    return (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0)


def _foreground_ranges(logits: Logits, spec: NetworkSpec) -> list[tuple[int, int]] | None:
    """Per axis the half-open range of coarse indices where background does not win; None if nowhere."""
    found = foreground(logits, regions=spec.has_regions)
    ranges = []
    for axis in range(3):
        hit = np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis)))
        if hit.size == 0:
            return None
        ranges.append((int(hit[0]), int(hit[-1]) + 1))
    return ranges
