"""A chain in the making: the voxels to share out, and the bones and seams they are shared out to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinecore.chain import Kind
from spinecore.column import Column
from spinecore.components import TOUCHING_26
from spinecore.labels import Class
from spinecore.separators import Cloud, Members, Separator, expected_pitch_mm

CLASS_OF_KIND = {Kind.BODY: Class.BODY, Kind.SACRUM: Class.SACRUM, Kind.C2: Class.C2}
FRAGMENT_SHARE = 0.2  # loose parts of one bone or disc below this share of its largest part are dropped


@dataclass(eq=False)
class Draft:
    """A chain in the making, from the feet upward, members as indices into the cloud.

    bones has one entry more than seams; seams[i] lies above bones[i]. trusted[i] belongs to seams[i].
    """

    bones: list[Members]
    kinds: list[Kind]
    seams: list[Separator | None]
    trusted: list[bool]
    doubts: dict[Kind, str] = field(default_factory=dict)

    def flip(self) -> None:
        """Turn upside down in place, so that one rule serves both ends."""
        self.bones.reverse()
        self.kinds.reverse()
        self.seams.reverse()
        self.trusted.reverse()


@dataclass(frozen=True, eq=False)
class Material:
    """The voxels to share out: cloud, class (N,) and flat index (N,) of each, grid, the column's course."""

    cloud: Cloud
    classes: NDArray[np.uint8]
    flat: Members
    shape: tuple[int, ...]
    column: Column

    def volume(self, members: Members, kind: Kind | None = None) -> float:
        """mm³ of `members`, of one kind only if given."""
        if kind is None:
            return len(members) * self.cloud.voxel_mm3
        return int((self.classes[members] == CLASS_OF_KIND[kind]).sum()) * self.cloud.voxel_mm3


def interval_of(cloud: Cloud, bone: Members, separators: list[Separator]) -> NDArray[np.intp]:
    """Per bone voxel the number of separators below it: by arc length, then by the two planes next to it."""
    arcs = np.array([s.arc_mm for s in separators])
    owner = np.searchsorted(arcs, cloud.arc_mm[bone])
    points = cloud.points[bone]
    moved = owner.copy()
    for k, separator in enumerate(separators):
        above = separator.height_of(points) > 0
        moved[(owner == k) & above] = k + 1
        moved[(owner == k + 1) & ~above] = k
    return moved


def usual_volume(draft: Draft, material: Material) -> float:
    """Median bone volume in mm³ of the (up to three) inner intervals nearest to the lower end."""
    inner = [material.volume(m) for m in draft.bones[1:4] if len(m)]
    return float(np.median(inner)) if inner else 1.0


def pitch_at(draft: Draft, k: int) -> float:
    """Usual distance of discs around bone k."""
    discs = [s for s in draft.seams if s is not None]
    return expected_pitch_mm(discs, sum(s is not None for s in draft.seams[:k]))


def bone_length_mm(members: Members, material: Material) -> float:
    """Extent of `members` along the column in mm, the outermost hundredth at either end left out."""
    low, high = np.percentile(material.cloud.arc_mm[members], (1, 99))
    return float(high - low)


def main_part(voxels: Members, shape: tuple[int, ...]) -> Members:
    """The largest connected part of `voxels` (flat indices) with any other of a fair size."""
    if not len(voxels):
        return voxels
    _, share = part_sizes(voxels, shape)
    main: Members = voxels[share >= FRAGMENT_SHARE]
    return main


def part_sizes(voxels: Members, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Per voxel: whether it is in the largest connected part, and its part's size as a share of that."""
    index = np.stack(np.unravel_index(voxels, shape))
    low = index.min(axis=1)
    box = np.zeros(index.max(axis=1) - low + 1, dtype=bool)
    local = tuple(index - low[:, None])
    box[local] = True
    parts, _ = ndimage.label(box, TOUCHING_26)
    part = parts[local]
    sizes = np.bincount(part)
    return part == int(np.argmax(sizes)), sizes[part] / sizes.max()
