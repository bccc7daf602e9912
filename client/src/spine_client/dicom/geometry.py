"""Sorts the frames of a stack and turns their positions into one affine, or says why that cannot be.

Order and slice distance come from ImagePositionPatient along the plane's normal (PS3.3 section C.7.6.2),
never from file names, InstanceNumber, SliceThickness or SpacingBetweenSlices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from spine_client.dicom.files import paths_of
from spine_client.dicom.frame import Frame
from spine_client.errors import InputError
from spine_client.notices import Notice, notice

_UNIT_TOLERANCE = 1e-2
"""How far the row and column directions may be from orthonormal."""
_SAME_PLACE_MM = 0.01
"""Slices nearer to each other than this are duplicates."""
_GAP_FACTOR = 1.5
"""A step this many times the usual one means that a slice is missing."""
_UNEVEN_FRACTION = 0.1
"""How far, in slice distances, a slice may lie from where even steps would put it."""
_REPORT_FRACTION = 0.01
_SHEAR_TANGENT = 0.01
"""How far the line through the slices' corners may lean from their normal."""


@dataclass(frozen=True)
class OrderedFrames:
    """Frames in ascending order along their normal, and the affine of the volume they make."""

    frames: tuple[Frame, ...]
    affine: npt.NDArray[np.float64]
    """(4, 4), (column, row, slice, 1) → LPS mm."""
    notices: tuple[Notice, ...]


def sort_and_place(frames: Sequence[Frame]) -> OrderedFrames:
    """Order the frames along the normal and place them.

    Raises `InputError`: ``single_slice``, ``bad_geometry``, ``duplicate_slices``, ``missing_slices``,
    ``uneven_spacing``, ``shear``.
    """
    if len(frames) < 2:
        raise InputError("single_slice", "the series has a single slice; a volume needs all its slices")
    _check_plane(frames[0])
    along = np.array([np.dot(frame.position, frames[0].normal) for frame in frames])
    order = np.argsort(along, kind="stable")
    ordered = tuple(frames[i] for i in order)
    notices = _check_steps(ordered, along[order])
    step = _slice_step(ordered)
    return OrderedFrames(ordered, _affine(ordered[0], step), notices)


def _check_plane(frame: Frame) -> None:
    row, column = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    errors = (np.dot(row, row) - 1, np.dot(column, column) - 1, np.dot(row, column))
    if np.abs(errors).max() > _UNIT_TOLERANCE:
        raise InputError("bad_geometry", "row and column directions are not at right angles and of length 1")
    if min(frame.spacing) <= 0:
        raise InputError("bad_geometry", "the pixel spacing is not positive")


def _check_steps(ordered: Sequence[Frame], along: npt.NDArray[np.float64]) -> tuple[Notice, ...]:
    steps = np.diff(along)
    if steps.min() < _SAME_PLACE_MM:
        raise _duplicates(ordered, steps)
    usual = float(np.median(steps))
    if steps.max() > _GAP_FACTOR * usual:
        missing = int(np.round(steps / usual - 1)[steps > _GAP_FACTOR * usual].sum())
        raise InputError(
            "missing_slices",
            f"about {missing} slices are missing: steps of up to {steps.max():.2f} mm where "
            f"{usual:.2f} mm are usual; export the whole series again",
        )
    even = np.linspace(along[0], along[-1], len(along))
    worst = float(np.abs(along - even).max() / np.mean(steps))
    if worst > _UNEVEN_FRACTION:
        raise InputError(
            "uneven_spacing", f"slice distances vary between {steps.min():.2f} and {steps.max():.2f} mm"
        )
    if worst > _REPORT_FRACTION:
        return (notice("uneven_spacing", f"slices lie up to {worst:.0%} of a step off even spacing"),)
    return ()


def _duplicates(ordered: Sequence[Frame], steps: npt.NDArray[np.float64]) -> InputError:
    neighbours = zip(pairwise(ordered), steps, strict=True)
    twice = [pair for pair, step in neighbours if step < _SAME_PLACE_MM]
    copies = sum(one.sop_uid == other.sop_uid for one, other in twice)
    what = "copies of the same images" if copies == len(twice) else "different images at the same place"
    files = paths_of([frame.origin for pair in twice for frame in pair])
    return InputError("duplicate_slices", f"{len(twice)} slices are there twice ({what}); remove one of each",
                      files=files)  # fmt: skip


def _slice_step(ordered: Sequence[Frame]) -> npt.NDArray[np.float64]:
    """Vector from one slice to the next, along the normal."""
    normal = ordered[0].normal
    step = np.subtract(ordered[-1].position, ordered[0].position) / (len(ordered) - 1)
    offsets = np.subtract([frame.position for frame in ordered], ordered[0].position)
    in_plane = offsets - np.outer(offsets @ normal, normal)
    leaning = np.linalg.norm(in_plane, axis=1).max() / float(offsets[-1] @ normal)
    if leaning > _SHEAR_TANGENT:
        degrees = float(np.degrees(np.arctan(leaning)))
        raise InputError(
            "shear", f"the slices are shifted sideways ({degrees:.1f}° off their normal); resample them first"
        )
    return np.asarray(step, dtype=np.float64)


def _affine(first: Frame, step: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(first.orientation[:3], first.spacing[1])
    affine[:3, 1] = np.multiply(first.orientation[3:], first.spacing[0])
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    return affine
