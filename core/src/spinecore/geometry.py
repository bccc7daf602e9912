"""Where voxels are: affines, orientation codes, turning volumes, sampling at points.

One frame throughout: DICOM's LPS in millimetres (+x to the patient's Left, +y Posterior, +z Superior).
An `affine` (4, 4) float64 maps a voxel index (x, y, z, 1) to LPS mm. Arrays run the other way round:
(Z, Y, X) or (C, Z, Y, X), so ``array[z, y, x]`` lies at ``affine @ (x, y, z, 1)``.

An orientation code names, for the index axes x, y, z in this order, the side each one runs towards:
``"LPS"`` for an identity affine, ``"PIR"`` for a typical sagittal series (x to posterior, y to inferior,
z to the right). These are the codes of nibabel's `aff2axcodes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Affine = npt.NDArray[np.float64]
Points = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]
ScalarT = TypeVar("ScalarT", bound=np.generic)

_LPS_TO_RAS: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])
_AXIS_OF_LETTER = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}
_POSITIVE, _NEGATIVE = "LPS", "RAI"


@dataclass(frozen=True, eq=False)
class Volume:
    """An image with its place in the patient.

    Attributes
    ----------
    voxels : (C, Z, Y, X) array, any real dtype
    affine : (4, 4) float64, voxel index (x, y, z, 1) -> LPS mm
    """

    voxels: AnyArray
    affine: Affine

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Grid size (Z, Y, X), without the channels."""
        z, y, x = self.voxels.shape[1:]
        return int(z), int(y), int(x)

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels in mm, in array order (z, y, x)."""
        return spacing_zyx(self.affine)

    @property
    def orientation(self) -> str:
        """Orientation code of the index axes x, y, z, e.g. ``"PIR"``."""
        return orientation(self.affine)


def spacing_zyx(affine: Affine) -> tuple[float, float, float]:
    """Voxel spacing in mm in array order (z, y, x): the lengths of the affine's columns, last first."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)


def lps_to_ras(affine: Affine) -> Affine:
    """Affine to LPS -> affine to RAS (NIfTI), and the reverse: the turn is its own inverse."""
    turned: Affine = _LPS_TO_RAS @ np.asarray(affine, dtype=np.float64)
    return turned


def orientation(affine: Affine) -> str:
    """Orientation code of an affine's index axes (x, y, z): the anatomical side each runs closest to.

    Oblique axes are matched strongest first, so that no side is taken twice (as in nibabel).
    """
    columns = np.array(affine[:3, :3], dtype=np.float64)
    columns /= np.linalg.norm(columns, axis=0)
    letters = ["", "", ""]
    for axis in np.argsort(-np.abs(columns).max(axis=0), kind="stable"):
        side = int(np.argmax(np.abs(columns[:, axis])))
        letters[axis] = (_POSITIVE if columns[side, axis] > 0 else _NEGATIVE)[side]
        columns[side, :] = 0.0
    return "".join(letters)


def check_orientation(code: str) -> str:
    """`code` itself if it names each of the three directions once, otherwise ValueError."""
    if len(code) != 3 or sorted(_AXIS_OF_LETTER.get(letter, -1) for letter in code) != [0, 1, 2]:
        raise ValueError(f"An orientation code names three different directions, e.g. 'LPS'; got {code!r}.")
    return code


def _index_axes(source: str, target: str) -> tuple[list[int], list[bool]]:
    """Per target index axis (x, y, z): the source index axis it comes from, and whether it is flipped."""
    source_letters = check_orientation(source)
    axes = [_AXIS_OF_LETTER[letter] for letter in source_letters]
    taken = [axes.index(_AXIS_OF_LETTER[letter]) for letter in check_orientation(target)]
    flipped = [source_letters[axis] != letter for axis, letter in zip(taken, target, strict=True)]
    return taken, flipped


def turn(array: npt.NDArray[ScalarT], *, source: str, target: str) -> npt.NDArray[ScalarT]:
    """View of `array` (..., Z, Y, X), stored in orientation `source`, in orientation `target`.

    Only transposes and flips: no voxel value changes. `turn(turn(a, source=s, target=t), source=t,
    target=s)` is `a`.
    """
    taken, flipped = _index_axes(source, target)
    lead = array.ndim - 3
    spatial = [lead + 2 - taken[index] for index in (2, 1, 0)]
    steps = [slice(None, None, -1) if flipped[index] else slice(None) for index in (2, 1, 0)]
    return array.transpose(*range(lead), *spatial)[(..., *steps)]


def reorient(volume: Volume, target: str) -> Volume:
    """The same volume with its index axes x, y, z running towards `target`, e.g. ``"RAS"``.

    Voxels are a view (transposed, flipped); the affine is updated so that every voxel stays where it was.
    For ``"RAS"`` the array axes (Z, Y, X) run to Superior, Anterior, Right: nnU-Net's
    ``NibabelIOWithReorient``.
    """
    source = orientation(volume.affine)
    taken, flipped = _index_axes(source, target)
    size_xyz = volume.shape_zyx[::-1]
    to_source = np.zeros((4, 4))
    to_source[3, 3] = 1.0
    for new, (old, flip) in enumerate(zip(taken, flipped, strict=True)):
        to_source[old, new] = -1.0 if flip else 1.0
        to_source[old, 3] = size_xyz[old] - 1.0 if flip else 0.0
    return Volume(turn(volume.voxels, source=source, target=target), volume.affine @ to_source)


def restore_orientation(labels: npt.NDArray[ScalarT], *, source: str, target: str) -> npt.NDArray[ScalarT]:
    """Bring `labels` (..., Z, Y, X), found on a volume turned from `source` to `target`, back to `source`."""
    return turn(labels, source=target, target=source)


def index_to_lps(affine: Affine, index_xyz: npt.ArrayLike) -> Points:
    """Voxel indices (..., 3) in order x, y, z, may be fractional -> points (..., 3) in LPS mm."""
    points: Points = np.asarray(index_xyz, dtype=np.float64) @ affine[:3, :3].T + affine[:3, 3]
    return points


def lps_to_index(affine: Affine, points_lps: npt.ArrayLike) -> Points:
    """Points (..., 3) in LPS mm -> fractional voxel indices (..., 3) in order x, y, z."""
    return index_to_lps(np.linalg.inv(affine), points_lps)


def sample(
    array: AnyArray, points_lps: npt.ArrayLike, *, affine: Affine, order: int = 1, outside: float = 0.0
) -> npt.NDArray[np.float32]:
    """Values of `array` (Z, Y, X) at points (..., 3) in LPS mm: float32, shape (...).

    `order` 1 is trilinear, 0 the nearest voxel. Points beyond the outermost voxel centres get `outside`.
    """
    points = np.asarray(points_lps, dtype=np.float64)
    index_zyx = lps_to_index(affine, points.reshape(-1, 3))[:, ::-1].T
    values = ndimage.map_coordinates(
        array, index_zyx, output=np.float32, order=order, mode="constant", cval=outside
    )
    return np.asarray(values, dtype=np.float32).reshape(points.shape[:-1])
