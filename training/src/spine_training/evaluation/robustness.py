"""The same cases made harder, one property at a time: noise, slice thickness, contrast, rotation, motion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spine_training.evaluation.cases import Case
from spine_training.evaluation.reference import Level
from spinecore.field_of_view import cut_by_view
from spinecore.geometry import Affine, index_to_lps, orientation, spacing_zyx
from spinecore.phantom.flaws import moved

Array = NDArray[Any]

_BREATHS = 8.0
"""Within the acquisition."""


@dataclass(frozen=True)
class Stress:
    """One property: its name, unit, the values tried, the value that changes nothing, and what it does."""

    name: str
    unit: str
    levels: tuple[float, ...]
    unchanged: float
    apply: Callable[[Case, float], Case | None]


def noisy(case: Case, share: float) -> Case:
    """Gaussian noise, its standard deviation `share` of the image's 99th percentile, from a fixed seed."""
    image = case.image.astype(np.float32)
    sigma = share * float(np.percentile(image, 99))
    noise = np.random.default_rng(0).standard_normal(image.shape, dtype=np.float32)
    return replace(case, image=image + sigma * noise)


def thick(case: Case, thickness_mm: float) -> Case | None:
    """Neighbouring sagittal slices averaged to about `thickness_mm`; None where they are as thick already."""
    axis = _axis_along(case.affine, "LR")
    block = round(thickness_mm / spacing_zyx(case.affine)[axis])
    count = case.image.shape[axis] // block if block else 0
    if block < 2 or count < 3:
        return None
    kept = np.moveaxis(case.image, axis, 0)[: count * block].astype(np.float32)
    image = np.moveaxis(kept.reshape(count, block, *kept.shape[1:]).mean(axis=1), 0, axis)
    centre = slice(block // 2, count * block, block)
    pick = tuple(centre if a == axis else slice(None) for a in range(3))
    affine = case.affine.copy()
    column = 2 - axis
    affine[:3, 3] += affine[:3, column] * (block - 1) / 2
    affine[:3, column] *= block
    ignored = case.reference.ignored
    labels = np.ascontiguousarray(case.reference.labels[pick])
    reference = replace(case.reference, labels=labels, ignored=None if ignored is None else ignored[pick])
    return replace(case, image=np.ascontiguousarray(image), affine=affine, reference=reference)


def gamma(case: Case, exponent: float) -> Case:
    """Intensities, scaled to 0…1, to the power of `exponent`; a negative one inverts them as well."""
    image = case.image.astype(np.float32)
    low, high = (float(v) for v in np.percentile(image, (0, 99.5)))
    scaled = np.clip((image - low) / max(high - low, 1e-6), 0, 1) ** abs(exponent)
    return replace(case, image=1000 * (scaled if exponent > 0 else 1 - scaled))


def turned(case: Case, degrees: float) -> Case:
    """The patient turned by `degrees` about the left-right axis, and half as much about the other two."""
    matrix = _turn(case, degrees)
    image = _resampled(case.image.astype(np.float32), matrix, order=1)
    labels = _resampled(case.reference.labels, matrix, order=0)
    ignored = case.reference.ignored
    reference = replace(
        case.reference,
        labels=labels,
        ignored=None if ignored is None else _resampled(ignored, matrix, order=0),
        vertebrae=_still_whole(case.reference.vertebrae, labels, case.affine),
        discs=_still_whole(case.reference.discs, labels, case.affine),
    )
    return replace(case, image=image, reference=reference)


def swaying(case: Case, reach_mm: float) -> Case:
    """The patient swings by `reach_mm` along the phase-encoding axis, head to foot, as breathing does."""
    axis = _axis_along(case.affine, "IS")
    reach = reach_mm / spacing_zyx(case.affine)[axis]
    image = moved(case.image.astype(np.float32), axis, reach=reach, cycles=_BREATHS, phase=0.0)
    return replace(case, image=image)


STRESSES = (
    Stress("noise", "share of the brightest", (0.03, 0.06, 0.12, 0.2), 0.0, noisy),
    Stress("slice thickness", "mm", (2.0, 3.0, 4.0, 6.0), 0.0, thick),
    Stress("contrast", "gamma, negative: inverted", (0.5, 0.7, 1.5, 2.0, -1.0), 1.0, gamma),
    Stress("rotation", "degrees", (5.0, 10.0, 20.0, 30.0), 0.0, turned),
    Stress("motion", "mm", (0.5, 1.0, 2.0, 4.0), 0.0, swaying),
)


def stressed(case: Case, stress: Stress) -> Iterator[tuple[float, Case]]:
    """`case` at each level of `stress` that it can be brought to."""
    for level in stress.levels:
        changed = stress.apply(case, level)
        if changed is not None:
            yield level, changed


def _axis_along(affine: Affine, letters: str) -> int:
    """Array axis (Z, Y, X) whose direction is one of `letters`: ``"LR"`` runs across sagittal slices."""
    code = orientation(affine)
    return 2 - next(i for i, letter in enumerate(code) if letter in letters)


def _turn(case: Case, degrees: float) -> Affine:
    """(4, 4) in LPS mm: from a point of the turned image to where it was, about the middle of the volume."""
    angles = np.deg2rad([degrees, degrees / 2, degrees / 2])
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        one = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        one[[i, j], [i, j]] = math.cos(angle)
        one[i, j], one[j, i] = -math.sin(angle), math.sin(angle)
        turn = one @ turn
    shape = np.array(case.image.shape)
    middle = index_to_lps(case.affine, (shape[::-1] - 1) / 2)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, middle - turn @ middle
    to_index = np.linalg.inv(case.affine)
    return np.asarray(to_index @ matrix @ case.affine)


def _resampled(array: Array, matrix_xyz: Affine, *, order: int) -> Array:
    """`array` (Z, Y, X) at the places its own voxels have under `matrix_xyz` (voxel indices x, y, z)."""
    swap = np.eye(4)[[2, 1, 0, 3]]
    turned = ndimage.affine_transform(array, swap @ matrix_xyz @ swap, order=order, mode="constant", cval=0)
    return np.asarray(turned)


def _still_whole(levels: tuple[Level, ...], labels: Array, affine: Affine) -> tuple[Level, ...]:
    """The levels, complete only where the turn has pushed no part of them out of view."""

    def whole(level: Level) -> bool:
        voxels = np.flatnonzero(labels == level.label)
        cut = cut_by_view(voxels, labels.shape, affine) if len(voxels) else None
        return level.complete and cut is not None and not cut.along and not cut.side

    return tuple(replace(level, complete=whole(level)) for level in levels)
