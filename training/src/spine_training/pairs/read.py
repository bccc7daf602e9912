"""Reading one pair: image and labels on one grid, in LPS, in our classes and, where they tell, levels.

Everything is checked here, once: three axes, one grid, whole known numbers, an image that shows something.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spine_client import InputError
from spine_client.nifti import read_nifti
from spine_client.volume import Volume
from spine_training.pairs.errors import PairError
from spine_training.pairs.find import Pair
from spine_training.pairs.tables import ENDPLATE, SACRAL, LabelTable
from spinecore.labels import C2, CANAL, DISC_OFFSET, SACRUM, Class

SAME_GRID_MM = 0.1
_C1 = 1
_INSTANCE_LIMIT = 100


@dataclass(frozen=True, eq=False)
class LabelledVolume:
    """A pair in memory, on one grid.

    image : (Z, Y, X), the file's own numbers. affine : (4, 4), (x, y, z, 1) to LPS mm.
    classes : (Z, Y, X) uint8 of `labels.Class`, endplates as body.
    endplates : (Z, Y, X) bool, where the labels say endplate.
    levels : (Z, Y, X) uint8 in the server's numbers (see `spinecore.labels`), None where they do not tell
        one vertebra from the next.
    """

    image: NDArray[Any]
    affine: NDArray[np.float64]
    classes: NDArray[np.uint8]
    endplates: NDArray[np.bool_]
    levels: NDArray[np.uint8] | None


def label_numbers(pairs: Iterable[Pair]) -> set[int]:
    """All numbers in the label maps of `pairs`."""
    return {int(n) for pair in pairs for n in np.unique(_label_map(pair, pair.labels).voxels)}


def read_pair(pair: Pair, table: LabelTable) -> LabelledVolume:
    """Read and check one pair; PairError is one sentence that names it."""
    image = _volume(pair, pair.image)
    labels = _label_map(pair, pair.labels)
    _check_grid(pair, image, labels, pair.labels)
    unknown = table.unknown(np.unique(labels.voxels).tolist())
    if unknown:
        shown = ", ".join(map(str, unknown[:5]))
        raise PairError(f"Pair {pair.name}: label {shown} is not in the table {table.name}; see --labels.")
    found = table.apply(labels.voxels)
    if not found.any():
        raise PairError(f"Pair {pair.name}: the label map shows no structure of the spine.")
    instances = None
    if pair.instances is not None:
        instances = _label_map(pair, pair.instances)
        _check_grid(pair, image, instances, pair.instances)
    return _assembled(image, found, labels.voxels if table.has_levels else None, instances)


def _assembled(
    image: Volume,
    found: NDArray[np.uint8],
    numbers: NDArray[Any] | None,
    instances: Volume | None,
) -> LabelledVolume:
    endplates = found == ENDPLATE
    classes = np.where(endplates, Class.BODY, found).astype(np.uint8)
    levels = None
    if instances is not None:
        classes, levels = _with_instances(classes, instances.voxels)
    elif numbers is not None:
        levels = _levels(classes, np.where(endplates, numbers - 200, numbers))
    return LabelledVolume(image.image, image.affine, classes, endplates, levels)


def _with_instances(
    classes: NDArray[np.uint8], instances: NDArray[Any]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Structures divided into levels by SPINEPS's second mask, each voxel by the nearest one of its kind."""
    numbers = instances.astype(np.int64) % 200  # an endplate 200 + N belongs to vertebra N
    bone = np.isin(classes, (Class.BODY, Class.SACRUM, Class.C2))
    levels = np.zeros(classes.shape, dtype=np.int64)
    for wanted, known in (
        (bone, (numbers > 0) & (numbers < _INSTANCE_LIMIT)),
        (classes == Class.DISC, numbers > _INSTANCE_LIMIT),
    ):
        if wanted.any() and known.any():
            levels[wanted] = _nearest(numbers, known)[wanted]
    classes = np.where(levels == _C1, Class.BACKGROUND, classes)
    classes = np.where(bone & (levels == C2), Class.C2, classes)
    classes = np.where(bone & np.isin(levels, SACRAL), Class.SACRUM, classes).astype(np.uint8)
    return classes, _levels(classes, levels)


def _nearest(numbers: NDArray[np.int64], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    places = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    nearest: NDArray[np.int64] = numbers[tuple(places)]
    return nearest


def _levels(classes: NDArray[np.uint8], numbers: NDArray[Any]) -> NDArray[np.uint8]:
    """The server's numbers: canal 61, sacrum 26, body N, disc 100 + N, nothing else."""
    levels = np.where(np.isin(classes, (Class.BODY, Class.C2, Class.DISC)), numbers, 0)
    levels = np.where(classes == Class.CANAL, CANAL, levels)
    levels = np.where(classes == Class.SACRUM, SACRUM, levels)
    levels = np.where((levels < 0) | (levels > 2 * DISC_OFFSET), 0, levels)
    return levels.astype(np.uint8)


def _volume(pair: Pair, path: Path) -> Volume:
    try:
        return read_nifti(path)
    except InputError as error:
        raise PairError(f"Pair {pair.name}, {path.name}: {error}.") from None


def _label_map(pair: Pair, path: Path) -> Volume:
    volume = _volume(pair, path)
    voxels = volume.voxels
    whole = np.issubdtype(voxels.dtype, np.integer) or bool((voxels == np.round(voxels)).all())
    if not whole or voxels.min() < 0 or voxels.max() >= 2**15:
        raise PairError(f"Pair {pair.name}: {path.name} holds numbers that are no labels (0, 1, 2, …).")
    return Volume(voxels.astype(np.int64), volume.affine)


def _check_grid(pair: Pair, image: Volume, labels: Volume, path: Path) -> None:
    if image.image.shape != labels.image.shape:
        sizes = " and ".join("×".join(map(str, v.image.shape[::-1])) for v in (image, labels))
        raise PairError(f"Pair {pair.name}: image and {path.name} have different sizes, {sizes}.")
    corners = np.array([[x, y, z, 1] for z, y, x in np.ndindex(2, 2, 2)]) * (*image.image.shape[::-1], 1)
    apart = float(np.linalg.norm((corners @ (image.affine - labels.affine).T)[:, :3], axis=1).max())
    if apart > SAME_GRID_MM:
        raise PairError(
            f"Pair {pair.name}: image and {path.name} lie up to {apart:.1f} mm apart; resample one of them."
        )
