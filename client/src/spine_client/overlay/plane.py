"""The midsagittal slice of a result, as a picture: anterior to the left, superior up, millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from spine_client._contract import CANAL_LABEL, DISC_OFFSET
from spine_client.report import Disc, Line, Point
from spine_client.result import SpineResult


@dataclass(frozen=True, eq=False)
class SagittalPlane:
    """One picture of image and labels, rows from superior to inferior, columns from anterior to posterior."""

    image: npt.NDArray[Any]
    """(rows, columns)."""
    labels: npt.NDArray[np.uint8]
    """(rows, columns)."""
    spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    slices: npt.NDArray[np.float64]
    """(rows,): which slice, from the patient's right, each row shows."""
    _to_picture: npt.NDArray[np.float64]
    """(4, 4): LPS mm → (column, row, slice) index of the picture."""

    @property
    def is_curved(self) -> bool:
        """Whether the picture follows a sideways curve of the spine through several slices."""
        return bool(np.ptp(self.slices) > 0)

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width of the picture."""
        rows, columns = self.image.shape
        return rows * self.spacing_mm[0], columns * self.spacing_mm[1]

    @property
    def extent_mm(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top edge for `imshow`; pixel centres lie at index · spacing."""
        (height, width), (dy, dx) = self.size_mm, self.spacing_mm
        return -dx / 2, width - dx / 2, height - dy / 2, -dy / 2

    def project(self, point: Point) -> tuple[float, float]:
        """LPS mm → (x, y) mm in the picture, along the left-right axis of the voxel grid."""
        column, row, _ = (self._to_picture @ (*point, 1.0))[:3]
        return float(column * self.spacing_mm[1]), float(row * self.spacing_mm[0])


@dataclass(frozen=True, eq=False)
class SagittalStack:
    """A whole result as sagittal pictures: (rows downward, columns backward, slices to the left)."""

    image: npt.NDArray[Any]
    labels: npt.NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    """Between rows, columns, slices."""
    to_picture: npt.NDArray[np.float64]
    """(4, 4): LPS mm → (column, row, slice) index."""


def sagittal_stack(result: SpineResult) -> SagittalStack:
    """Image and labels turned so that superior is up and anterior left, whatever order they are stored in."""
    order, flips = _picture_axes(result.affine)
    spacing = np.linalg.norm(result.affine[:3, :3], axis=0)
    return SagittalStack(
        image=_reorient(result.volume.image, order, flips),
        labels=_reorient(result.labels, order, flips),
        spacing_mm=(float(spacing[order[0]]), float(spacing[order[1]]), float(spacing[order[2]])),
        to_picture=np.linalg.inv(result.affine @ _from_picture(order, flips, result.labels.shape)),
    )


def midsagittal_plane(result: SpineResult) -> SagittalPlane:
    """The slice where the measurements were taken; without any, the one with the most canal and disc.

    Where the measurements lie in different slices (scoliosis, or an oblique volume), each row is taken from
    the place where the spine is: a curved reformat, linear between slices, labels from the nearest one.
    """
    stack = sagittal_stack(result)
    slices = _slice_of_rows(result.discs, stack.labels, stack.to_picture)
    return SagittalPlane(
        image=_rows_between_slices(stack.image, slices),
        labels=stack.labels[np.arange(len(slices)), :, np.round(slices).astype(int)],
        spacing_mm=stack.spacing_mm[:2],
        slices=slices,
        _to_picture=stack.to_picture,
    )


def _picture_axes(affine: npt.NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Which voxel axis (x, y, z) runs down, backward and to the left, and whether it must be turned round."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    wanted = np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]], dtype=float)  # inferior, posterior, left in LPS
    cosines = wanted @ directions
    order = max(permutations(range(3)), key=lambda p: sum(abs(cosines[i, p[i]]) for i in range(3)))
    return order, tuple(bool(cosines[i, axis] < 0) for i, axis in enumerate(order))


def _reorient(array: npt.NDArray[Any], order: tuple[int, ...], flips: tuple[bool, ...]) -> npt.NDArray[Any]:
    """(Z, Y, X) → (down, backward, left)."""
    turned = array.transpose(2, 1, 0).transpose(order)
    return turned[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def _from_picture(
    order: tuple[int, ...], flips: tuple[bool, ...], shape_zyx: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """(4, 4): (column, row, slice, 1) of the picture → voxel (x, y, z, 1)."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    sizes = shape_zyx[::-1]
    for picture_axis, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        column = (1, 0, 2)[picture_axis]  # rows come second in (column, row, slice)
        matrix[axis, column] = -1 if flip else 1
        matrix[axis, 3] = sizes[axis] - 1 if flip else 0
    return matrix


def _slice_of_rows(
    discs: tuple[Disc, ...], labels: npt.NDArray[np.uint8], to_picture: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Slice index of every row, (rows,): whole and constant if the spine stays within about one slice."""
    rows, _, count = labels.shape
    places = [np.mean(np.array(lines), axis=(0, 1)) for disc in discs if (lines := measured_lines(disc))]
    if not places:
        return np.full(rows, float(_fullest_slice(labels)))
    anchors = (np.c_[places, np.ones(len(places))] @ to_picture.T)[:, 1:3]
    anchors = anchors[np.argsort(anchors[:, 0])]
    slices = np.clip(anchors[:, 1], 0, count - 1)
    if np.ptp(slices) <= 1.0:
        return np.full(rows, np.round(np.median(slices)))
    return np.asarray(np.interp(np.arange(rows), anchors[:, 0], slices), dtype=np.float64)


def _fullest_slice(labels: npt.NDArray[np.uint8]) -> int:
    wanted = (labels == CANAL_LABEL) | (labels > DISC_OFFSET)
    counts = wanted.sum(axis=(0, 1))
    return int(np.argmax(counts)) if counts.any() else labels.shape[2] // 2


def _rows_between_slices(image: npt.NDArray[Any], slices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(rows, columns, slices) → (rows, columns), linear between neighbouring slices."""
    rows = np.arange(len(slices))
    below = np.minimum(slices.astype(int), image.shape[2] - 2)
    part = (slices - below)[:, None]
    return np.asarray(image[rows, :, below] * (1 - part) + image[rows, :, below + 1] * part)


def measured_lines(disc: Disc) -> list[Line]:
    """All lines along which the disc and its canal were measured."""
    lines = disc.height_lines_lps_mm
    candidates = (lines.anterior, lines.middle, lines.posterior, disc.canal_ap_line_lps_mm)
    return [line for line in candidates if line is not None]
