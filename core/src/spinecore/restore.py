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
from spinecore.kernels import KERNELS, Axis, winners
from spinecore.network_spec import NetworkSpec, Resampling
from spinecore.plan import Plan
from spinecore.resampling import Operator, axis_operators, resample, separate_axis
from spinecore.tiling import foreground
from spinecore.workers import for_each

Logits = npt.NDArray[np.float16]
Single = npt.NDArray[np.float32]
Classes = npt.NDArray[np.uint8]

SLAB_VOXELS = 2**18


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
    axes: list[Axis]


def _classes_on_crop(logits: Logits, plan: Plan, spec: NetworkSpec) -> Classes:
    """Class map of the cropped box, in the transposed grid."""
    how, regions = spec.resampling_logits, spec.regions_class_order
    if how.kind == "default" and max(how.order, how.order_z) > 1:
        return winners((_whole(values, plan, how) for values in logits), regions)
    classes = np.zeros(plan.cropped_shape, dtype=np.uint8)
    rounded = how.kind == "default"  # nnU-Net's default resampling, unlike torch's, gives float16

    def decide(part: _Part) -> None:
        box = logits[(slice(None), *part.coarse)]
        classes[part.fine] = KERNELS.classify(box, part.axes, rounded=rounded, regions=regions)

    for_each(decide, _parts(logits, plan, spec))
    return classes


def _whole(values: Logits, plan: Plan, how: Resampling) -> Single:
    """One class on the whole fine grid, by a spline that is not linear."""
    fine = resample(
        values[None].astype(np.float32),
        plan.cropped_shape,
        spacing_mm=plan.network_spacing_mm,
        new_spacing_mm=plan.spacing_mm,
        resampling=how,
    )
    rounded: Single = fine[0].astype(np.float16).astype(np.float32)
    return rounded


def _parts(logits: Logits, plan: Plan, spec: NetworkSpec) -> Iterator[_Part]:
    """Slabs that cover every fine voxel which may not be background."""
    apart = separate_axis(
        spec.resampling_logits, spacing_mm=plan.network_spacing_mm, new_spacing_mm=plan.spacing_mm
    )
    shape = plan.network_shape
    operators = axis_operators(shape, plan.cropped_shape, spec.resampling_logits, apart=apart)
    axes = [_linear(number, operator) for number, operator in enumerate(operators)]
    occupied = _foreground_ranges(logits, spec)
    if occupied is None:
        return
    fine = [_touched(axis, span) for axis, span in zip(axes, occupied, strict=True)]
    if any(start == stop for start, stop in fine):  # found in slices alone that are not used
        return
    (z0, z1), (y0, y1), (x0, x1) = fine
    depth = max(1, SLAB_VOXELS // ((y1 - y0) * (x1 - x0)))
    for start in range(z0, z1, depth):
        yield _part(axes, ((start, min(start + depth, z1)), (y0, y1), (x0, x1)))


def _linear(number: int, operator: Operator) -> Axis:
    """The sparse operator of an axis that draws on one or two neighbours, as these."""
    first, last = operator.indptr[:-1], operator.indptr[1:] - 1
    index = operator.indices[np.stack([first, last])].astype(np.int32)
    weight = operator.data[np.stack([first, last])].astype(np.float32)
    weight[1, first == last] = 0
    return Axis(number, index, weight)


def _part(axes: list[Axis], box: tuple[tuple[int, int], ...]) -> _Part:
    """Cut the axes down to the fine `box` and to the coarse voxels it needs, the most shrinking first."""
    coarse, cut, growth = [], [], []
    for axis, (start, stop) in zip(axes, box, strict=True):
        index, weight = axis.index[:, start:stop], axis.weight[:, start:stop]
        low, high = int(index.min()), int(index.max()) + 1
        coarse.append(slice(low, high))
        cut.append(Axis(axis.number, index - low, weight))
        growth.append((stop - start) / (high - low))
    z, y, x = (slice(start, stop) for start, stop in box)
    cut.sort(key=lambda axis: growth[axis.number])
    return _Part((z, y, x), (coarse[0], coarse[1], coarse[2]), cut)


def _touched(axis: Axis, span: tuple[int, int]) -> tuple[int, int]:
    """Half-open range of fine indices that draw on coarse indices in `span`."""
    drawn = (axis.index >= span[0]) & (axis.index < span[1]) & (axis.weight > 0)
    rows = np.flatnonzero(drawn.any(axis=0))
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
