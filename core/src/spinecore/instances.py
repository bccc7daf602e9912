"""From a class map to a chain of single vertebrae and discs.

1. Bodies, discs, sacrum and C2 become points with an arc length along the column (`spinecore.column`).
2. Discs are found along it and divide the bone into intervals (`spinecore.separators`).
3. Each interval is one bone of the class that fills most of it. At the two ends a body may share its
   interval with the sacrum or C2, where the disc between them was not seen: there the classes divide it.
4. Stretches too long for one vertebra are cut at their waists; where there is none, counting stops.

Nothing is guessed past a gap: `Chain.trusted` is False wherever the number of levels is open.
"""

from __future__ import annotations

import numpy as np

from spinecore.anchors import settle_anchor, settle_scraps
from spinecore.chain import Bone, Chain, Disc, Kind, points_lps
from spinecore.column import fit_column
from spinecore.components import ClassMap
from spinecore.draft import Draft, Material, interval_of, main_part
from spinecore.field_of_view import unbroken_mm, view_beyond_mm
from spinecore.geometry import Affine, Points
from spinecore.labels import Class
from spinecore.long_bones import cut_long_bones, judge_empty_intervals
from spinecore.separators import Cloud, Members, find_discs

OPEN_VIEW_MM = 40.0  # of image beyond the outermost disc, more than a whole vertebra: the column ends there
OPEN_CANAL_MM = 15.0  # and of canal


def find_chain(classes: ClassMap, affine: Affine) -> Chain:
    """Chain of the vertebrae and discs in a cleaned class map (Z, Y, X) of `labels.Class`; may be empty."""
    material = _gather(classes, affine)
    if material is None:
        return Chain()
    draft = _divide(material)
    canal = points_lps(np.flatnonzero(classes == Class.CANAL), classes.shape, affine)
    for anchor, end in ((Kind.SACRUM, 0), (Kind.C2, -1)):
        settle_anchor(
            draft, material, anchor, ends_in_view=_ends_in_view(draft, material, affine, canal, end)
        )
    cut_long_bones(draft, material)
    judge_empty_intervals(draft, material)
    settle_scraps(draft, material)
    return _finished(draft, material)


def _ends_in_view(draft: Draft, material: Material, affine: Affine, canal: Points, end: int) -> bool:
    """Whether image and canal go well on beyond the outermost disc of an end (0 lower, -1 upper)."""
    seam = draft.seams[end] if draft.seams else None
    if seam is None:
        return False
    outward = material.column.tangent_at(seam.arc_mm) * (1.0 if end else -1.0)
    if view_beyond_mm(seam.point, outward, material.shape, affine) < OPEN_VIEW_MM:
        return False
    return unbroken_mm((canal - seam.point) @ outward) >= OPEN_CANAL_MM


def _gather(classes: ClassMap, affine: Affine) -> Material | None:
    flat = np.flatnonzero(np.isin(classes, (Class.BODY, Class.DISC, Class.SACRUM, Class.C2)))
    if not len(flat):
        return None
    index_xyz = np.stack(np.unravel_index(flat, classes.shape)[::-1], axis=1)
    points = index_xyz @ affine[:3, :3].T + affine[:3, 3]
    column = fit_column(points)
    cloud = Cloud(points, column.project(points), float(abs(np.linalg.det(affine[:3, :3]))))
    return Material(cloud, classes.ravel()[flat], flat, classes.shape, column)


def _divide(material: Material) -> Draft:
    """Bone between discs: one interval below each disc and one above the last."""
    is_disc = material.classes == Class.DISC
    separators = find_discs(material.cloud, np.flatnonzero(is_disc), material.column)
    bone = np.flatnonzero(~is_disc)
    owner = interval_of(material.cloud, bone, separators)
    bones = [bone[owner == k] for k in range(len(separators) + 1)]
    kinds = [_majority(material, members) for members in bones]
    return Draft(bones, kinds, list(separators), [True] * len(separators))


def _majority(material: Material, members: Members) -> Kind:
    return max(Kind, key=lambda kind: material.volume(members, kind)) if len(members) else Kind.BODY


def _finished(draft: Draft, material: Material) -> Chain:
    """The chain from the head downward, loose fragments dropped, on the grid's own voxel indices."""
    draft.flip()
    shape = material.shape
    arcs = _arcs(draft, material)
    bones = []
    for members, kind, arc in zip(draft.bones, draft.kinds, arcs, strict=True):
        voxels = main_part(material.flat[members], shape)
        bones.append(Bone(kind, voxels, arc, len(voxels) * material.cloud.voxel_mm3))
    discs: list[Disc | None] = []
    for seam in draft.seams:
        if seam is None or not seam.is_disc:
            discs.append(None)
            continue
        voxels = main_part(material.flat[seam.members], shape)
        discs.append(Disc(voxels, seam.arc_mm, len(voxels) * material.cloud.voxel_mm3, seam.area_mm2))
    return Chain(tuple(bones), tuple(discs), tuple(draft.trusted), dict(draft.doubts))


def _arcs(draft: Draft, material: Material) -> list[float]:
    """Arc length of each bone's middle; of a bone not seen, the middle of the discs next to it."""
    arcs = []
    for k, members in enumerate(draft.bones):
        if len(members):
            arcs.append(float(np.median(material.cloud.arc_mm[members])))
            continue
        beside = [s.arc_mm for s in draft.seams[max(k - 1, 0) : k + 1] if s is not None]
        arcs.append(float(np.mean(beside)) if beside else 0.0)
    return arcs
