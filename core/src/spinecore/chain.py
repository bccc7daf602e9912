"""The column as a chain: bones from the head downward and the discs between them.

A `Chain` is what can be said without names: which voxels make one vertebra or one disc, what lies next to
what, where a member was missed and where counting from one bone to the next cannot be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from spinecore.separators import Members


class Kind(Enum):
    """What a bone is, as far as the network's classes tell."""

    BODY = "body"
    SACRUM = "sacrum"
    C2 = "c2"


@dataclass(frozen=True, eq=False)
class Bone:
    """One vertebra (or the sacrum). `voxels`: flat indices into the (Z, Y, X) grid, empty if not seen.

    arc_mm: middle along the column. volume_mm3: of its voxels.
    """

    kind: Kind
    voxels: Members
    arc_mm: float
    volume_mm3: float

    @property
    def seen(self) -> bool:
        return len(self.voxels) > 0


@dataclass(frozen=True, eq=False)
class Disc:
    """One disc. `voxels`: flat indices into the (Z, Y, X) grid. area_mm2: its footprint."""

    voxels: Members
    arc_mm: float
    volume_mm3: float
    area_mm2: float


@dataclass(frozen=True, eq=False)
class Chain:
    """Bones from the head downward; ``discs[i]`` lies between ``bones[i]`` and ``bones[i + 1]``.

    discs: None where two bones meet without a disc seen. trusted (len(bones) - 1,): False where a level may
    be missing or too many between the two. doubts: why an anchor in view must not be used, by kind.
    """

    bones: tuple[Bone, ...] = ()
    discs: tuple[Disc | None, ...] = ()
    trusted: tuple[bool, ...] = ()
    doubts: dict[Kind, str] = field(default_factory=dict)

    def index_of(self, kind: Kind) -> int | None:
        """Place of the first bone of `kind`, None if there is none."""
        return next((i for i, bone in enumerate(self.bones) if bone.kind is kind), None)


def centroid_lps(voxels: Members, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean position (3,) LPS mm of voxels given by flat index into a (Z, Y, X) grid of `shape`."""
    return np.asarray(points_lps(voxels, shape, affine).mean(axis=0))


def points_lps(voxels: Members, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Voxel centres (N, 3) LPS mm of voxels given by flat index into a (Z, Y, X) grid of `shape`."""
    index_xyz = np.stack(np.unravel_index(voxels, shape)[::-1], axis=1)
    return np.asarray(index_xyz @ affine[:3, :3].T + affine[:3, 3])
