"""From a class map to a chain of single vertebrae and discs.

1. Bodies, discs, sacrum and C2 become points with an arc length along the column (`spinecore.column`).
2. Discs are found along it and divide the bone into intervals (`spinecore.separators`).
3. Each interval is one bone of the class that fills most of it. At the two ends a body may share its
   interval with the sacrum or C2, where the disc between them was not seen: there the classes divide it.
4. Stretches too long for one vertebra are cut at their waists; where there is none, counting stops.

Nothing is guessed past a gap: `Chain.trusted` is False wherever the number of levels is open.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from spinecore.chain import Bone, Chain, Disc, Kind
from spinecore.column import Column, fit_column
from spinecore.components import TOUCHING_26, ClassMap
from spinecore.geometry import Affine
from spinecore.labels import Class
from spinecore.separators import (
    LONG_SHARE,
    Cloud,
    Members,
    Separator,
    expected_pitch_mm,
    find_discs,
    waists,
)

CLASS_OF_KIND = {Kind.BODY: Class.BODY, Kind.SACRUM: Class.SACRUM, Kind.C2: Class.C2}
MIN_ANCHOR_MM3 = {Kind.SACRUM: 1500.0, Kind.C2: 700.0}
RUDIMENT_AREA_SHARE = 0.45  # a disc inside the sacrum (S1/S2) or above C2 is smaller than this
WHOLE_BODY_SHARE = 0.7  # a body sharing an anchor's interval is a vertebra from this share of its neighbour
SCRAP_SHARE = 0.3  # and part of the anchor below this one; between the two the anchor is in doubt
MISSED_PITCH = (0.6, 1.5)  # two discs without bone between them hold exactly one vertebra at these distances
MIN_BONE_SHARE = 0.12  # less bone than this share of a usual vertebra is not one
CONTACT_MM = 2.5  # bones this near touch
REACH_MM = 10.0  # an anchor farther than this from the next disc or bone has lost a level between
CONTACT_SHARE = 0.15  # of a disc's footprint
SCRAP_JOIN_SHARE = 0.12
SCRAP_DROP_SHARE = 0.01
STRAY_SHARE = 0.4  # bone at an end that is neither whole nor cut by the field of view is no vertebra
LONG_END_SHARE = 1.35  # of the pitch: bone beyond the last disc this long is more than one vertebra
TEAR_MM = 3.0
MIN_PIECE_SHARE = 0.35  # a piece cut off a long bone is at least this share of the largest one
FRAGMENT_SHARE = 0.2  # loose parts of one bone or disc below this share of its largest part are dropped


@dataclass(eq=False)
class _Draft:
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
class _Material:
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


def find_chain(classes: ClassMap, affine: Affine) -> Chain:
    """Chain of the vertebrae and discs in a cleaned class map (Z, Y, X) of `labels.Class`; may be empty."""
    material = _gather(classes, affine)
    if material is None:
        return Chain()
    draft = _divide(material)
    for anchor in (Kind.SACRUM, Kind.C2):
        _settle_anchor(draft, material, anchor)
    _cut_long_bones(draft, material)
    _judge_empty_intervals(draft, material)
    _settle_scraps(draft, material)
    return _finished(draft, material)


def _gather(classes: ClassMap, affine: Affine) -> _Material | None:
    flat = np.flatnonzero(np.isin(classes, (Class.BODY, Class.DISC, Class.SACRUM, Class.C2)))
    if not len(flat):
        return None
    index_xyz = np.stack(np.unravel_index(flat, classes.shape)[::-1], axis=1)
    points = index_xyz @ affine[:3, :3].T + affine[:3, 3]
    column = fit_column(points)
    cloud = Cloud(points, column.project(points), float(abs(np.linalg.det(affine[:3, :3]))))
    return _Material(cloud, classes.ravel()[flat], flat, classes.shape, column)


def _divide(material: _Material) -> _Draft:
    """Bone between discs: one interval below each disc and one above the last."""
    is_disc = material.classes == Class.DISC
    separators = find_discs(material.cloud, np.flatnonzero(is_disc), material.column)
    bone = np.flatnonzero(~is_disc)
    owner = _interval_of(material.cloud, bone, separators)
    bones = [bone[owner == k] for k in range(len(separators) + 1)]
    kinds = [_majority(material, members) for members in bones]
    return _Draft(bones, kinds, list(separators), [True] * len(separators))


def _interval_of(cloud: Cloud, bone: Members, separators: list[Separator]) -> NDArray[np.intp]:
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


def _majority(material: _Material, members: Members) -> Kind:
    return max(Kind, key=lambda kind: material.volume(members, kind)) if len(members) else Kind.BODY


def _settle_anchor(draft: _Draft, material: _Material, anchor: Kind) -> None:
    """Make the anchor the outermost bone of its end, or turn it into a body and say why.

    Works on the lower end; for C2 the draft is turned upside down meanwhile.
    """
    if anchor is Kind.C2:
        draft.flip()
    _absorb_rudiments(draft, material, anchor)
    _split_shared_end(draft, material, anchor)
    _return_wings(draft, material, anchor)
    if draft.kinds[0] is anchor and len(draft.bones) > 1 and not _reaches_its_neighbour(draft, material):
        draft.doubts.setdefault(anchor, "it lies too far from the level next to it")
    for k in range(1, len(draft.bones)):
        if draft.kinds[k] is anchor:
            draft.kinds[k] = Kind.BODY
            draft.doubts.setdefault(anchor, "it is not at its end of the column")
    if anchor is Kind.C2:
        draft.flip()


def _absorb_rudiments(draft: _Draft, material: _Material, anchor: Kind) -> None:
    """Join everything beyond the innermost interval of `anchor` to it, if only rudiments divide it."""
    held = [k for k, kind in enumerate(draft.kinds) if kind is anchor and k < len(draft.bones)]
    inner = max(held, default=0)
    if inner == 0:
        return
    own = [s.area_mm2 for s in draft.seams[inner : inner + 3] if s is not None]
    beyond = [s.area_mm2 for s in draft.seams[:inner] if s is not None]
    if not own or max(beyond, default=0.0) >= RUDIMENT_AREA_SHARE * float(np.median(own)):
        draft.doubts[anchor] = "a disc of full size lies within it"
        return
    joined = np.concatenate(draft.bones[: inner + 1])
    draft.bones[: inner + 1] = [joined]
    draft.kinds[: inner + 1] = [anchor]
    del draft.seams[:inner], draft.trusted[:inner]


def _split_shared_end(draft: _Draft, material: _Material, anchor: Kind) -> None:
    """Where a body and the anchor share the end interval (no disc seen), divide it by class."""
    end = draft.bones[0]
    is_anchor = material.classes[end] == CLASS_OF_KIND[anchor]
    body = end[material.classes[end] == Class.BODY]
    if material.volume(end[is_anchor]) < MIN_ANCHOR_MM3[anchor]:
        draft.kinds[0] = Kind.BODY
        if is_anchor.any():
            draft.doubts[anchor] = "too little of it is in view"
        return
    share = material.volume(body) / _usual_volume(draft, material)
    if share < SCRAP_SHARE:
        draft.kinds[0] = anchor
        return
    draft.bones[:1] = [end[is_anchor], body]
    draft.kinds[:1] = [anchor, Kind.BODY]
    draft.seams.insert(0, None)
    draft.trusted.insert(0, True)
    if share < WHOLE_BODY_SHARE or _in_contact(draft, material) or _sliver_between(draft, material):
        draft.doubts[anchor] = "the bone next to it could be a vertebra or part of it"


def _in_contact(draft: _Draft, material: _Material) -> bool:
    """Whether the two lowest bones touch over a fair part of a disc's footprint.

    A vertebra and an anchor whose disc was overlooked keep its room between them; one bone that the network
    gave two classes does not. Without any disc to compare with, contact is assumed.
    """
    areas = [s.area_mm2 for s in draft.seams if s is not None]
    if not areas:
        return True
    points = material.cloud.points
    distance, _ = cKDTree(points[draft.bones[0]]).query(
        points[draft.bones[1]], distance_upper_bound=CONTACT_MM
    )
    touching = np.isfinite(distance).sum() * material.cloud.voxel_mm3 / CONTACT_MM
    return bool(touching > CONTACT_SHARE * np.median(areas))


def _reaches_its_neighbour(draft: _Draft, material: _Material) -> bool:
    """Whether the lowest bone comes near the disc above it, or the bone where no disc was seen."""
    seam = draft.seams[0]
    next_one = seam.members if seam is not None and seam.is_disc else draft.bones[1]
    if not len(next_one):
        return False
    points = material.cloud.points
    distance, _ = cKDTree(points[draft.bones[0]]).query(points[next_one], distance_upper_bound=REACH_MM)
    return bool(np.isfinite(distance).any())


def _sliver_between(draft: _Draft, material: _Material) -> bool:
    """Whether disc voxels too few for a disc lie between the two lowest bones: perhaps the one of S1/S2."""
    used = [s.members for s in draft.seams if s is not None]
    left = np.setdiff1d(np.flatnonzero(material.classes == Class.DISC), np.concatenate([*used, []]))
    low, high = sorted(float(np.median(material.cloud.arc_mm[m])) for m in draft.bones[:2])
    arcs = material.cloud.arc_mm[left.astype(np.intp)]
    return bool(((arcs > low) & (arcs < high)).any())


def _return_wings(draft: _Draft, material: _Material, anchor: Kind) -> None:
    """Give the anchor back what reaches past the disc beside it, as the sacrum's wings beside L5 do."""
    if draft.kinds[0] is not anchor or len(draft.bones) < 2:
        return
    strays = draft.bones[1][material.classes[draft.bones[1]] == CLASS_OF_KIND[anchor]]
    if not len(strays):
        return
    own = draft.bones[0][material.classes[draft.bones[0]] == CLASS_OF_KIND[anchor]]
    both = np.concatenate([own, strays])
    kept = np.isin(strays, both[_part_sizes(material.flat[both], material.shape)[0]])
    draft.bones[0] = np.concatenate([draft.bones[0], strays[kept]])
    draft.bones[1] = draft.bones[1][~np.isin(draft.bones[1], strays[kept])]


def _usual_volume(draft: _Draft, material: _Material) -> float:
    """Median bone volume in mm³ of the (up to three) inner intervals nearest to the lower end."""
    inner = [material.volume(m) for m in draft.bones[1:4] if len(m)]
    return float(np.median(inner)) if inner else 1.0


def _cut_long_bones(draft: _Draft, material: _Material) -> None:
    """Divide body intervals too long for one vertebra at their waists; where there is none, trust ends."""
    k = 0
    while k < len(draft.bones):
        pieces = _pieces(draft, material, k) if draft.kinds[k] is Kind.BODY else 1
        if pieces > 1:
            k += _cut(draft, material, k, pieces)
        k += 1


def _pieces(draft: _Draft, material: _Material, k: int) -> int:
    """How many vertebrae the length of bone k has room for."""
    discs = [s for s in draft.seams if s is not None]
    if not discs or not len(draft.bones[k]):
        return 1
    below = draft.seams[k - 1] if k > 0 else None
    above = draft.seams[k] if k < len(draft.seams) else None
    pitch = _pitch_at(draft, k)
    if below is not None and above is not None:
        length, limit = above.arc_mm - below.arc_mm, LONG_SHARE
    else:
        length, limit = _length(draft.bones[k], material), LONG_END_SHARE
    return max(round(length / pitch), 2) if length >= limit * pitch else 1


def _cut(draft: _Draft, material: _Material, k: int, pieces: int) -> int:
    """Cut bone k; the number of bones added.

    At clear waists counting goes on. Otherwise it is cut only where nothing holds it together, and not
    trusted: across such a tear, or, if there is none, at both ends of the bone.
    """
    members = draft.bones[k]
    cuts = waists(material.cloud, members, material.column, pieces=pieces)
    owner = _interval_of(material.cloud, members, cuts)
    parts = [members[owner == j] for j in range(len(cuts) + 1)]
    clear = bool(cuts) and _alike(parts, material, pitch=_pitch_at(draft, k))
    if not clear:
        parts = _torn(members, material)
    if len(parts) == 1:
        for seam in (k - 1, k):
            if 0 <= seam < len(draft.trusted):
                draft.trusted[seam] = False
        return 0
    added = len(parts) - 1
    draft.bones[k : k + 1] = parts
    draft.kinds[k : k + 1] = [Kind.BODY] * len(parts)
    draft.seams[k:k] = [None] * added
    draft.trusted[k:k] = [clear] * added
    return added


def _torn(members: Members, material: _Material) -> list[Members]:
    """`members` divided where there is nothing for `TEAR_MM` along the column, without small pieces."""
    order = np.argsort(material.cloud.arc_mm[members])
    arcs = material.cloud.arc_mm[members][order]
    parts = np.split(members[order], np.flatnonzero(np.diff(arcs) > TEAR_MM) + 1)
    largest = max(len(part) for part in parts)
    return [part for part in parts if len(part) >= MIN_PIECE_SHARE * largest]


def _alike(parts: list[Members], material: _Material, *, pitch: float) -> bool:
    """Whether the pieces of a cut bone are each of one vertebra's size: none tiny, none too long."""
    sizes = [len(part) for part in parts]
    if min(sizes) < MIN_PIECE_SHARE * max(sizes):
        return False
    return all(_length(part, material) < LONG_END_SHARE * pitch for part in parts)


def _length(members: Members, material: _Material) -> float:
    low, high = np.percentile(material.cloud.arc_mm[members], (1, 99))
    return float(high - low)


def _pitch_at(draft: _Draft, k: int) -> float:
    """Usual distance of discs around bone k."""
    discs = [s for s in draft.seams if s is not None]
    return expected_pitch_mm(discs, sum(s is not None for s in draft.seams[:k]))


def _judge_empty_intervals(draft: _Draft, material: _Material) -> None:
    """Between two discs without bone: one missed vertebra if the distance fits one, otherwise no trust."""
    discs = [s for s in draft.seams if s is not None]
    for k in range(1, len(draft.bones) - 1):
        below, above = draft.seams[k - 1], draft.seams[k]
        if below is None or above is None:
            continue
        usual = [material.volume(m) for j, m in enumerate(draft.bones) if 0 < abs(j - k) <= 2 and len(m)]
        enough = MIN_BONE_SHARE * float(np.median(usual)) if usual else 0.0
        if len(draft.bones[k]) and material.volume(draft.bones[k]) >= enough:
            continue
        draft.bones[k] = np.empty(0, dtype=np.intp)
        pitch = expected_pitch_mm(discs, discs.index(below) + 1)
        fits = MISSED_PITCH[0] <= (above.arc_mm - below.arc_mm) / pitch <= MISSED_PITCH[1]
        draft.trusted[k - 1] = draft.trusted[k - 1] and fits
        draft.trusted[k] = draft.trusted[k] and fits


def _settle_scraps(draft: _Draft, material: _Material) -> None:
    """A little bone beyond the outermost disc that hangs on the bone before it belongs to that one.

    (A disc cut by the field of view has an uncertain plane.) A trace, or a part of a vertebra that ends
    within the field of view, is dropped.
    """
    for _ in range(2):
        draft.flip()
        if len(draft.bones) < 2 or draft.kinds[0] is not Kind.BODY or not len(draft.bones[0]):
            continue
        share = material.volume(draft.bones[0]) / _usual_volume(draft, material)
        if share < SCRAP_JOIN_SHARE and _hangs_on(draft.bones[0], draft.bones[1], material):
            draft.bones[1] = np.concatenate([draft.bones[1], draft.bones[0]])
            draft.bones[0] = np.empty(0, dtype=np.intp)
        elif share < SCRAP_DROP_SHARE or (share < STRAY_SHARE and not _at_border(draft.bones[0], material)):
            draft.bones[0] = np.empty(0, dtype=np.intp)


def _at_border(members: Members, material: _Material) -> bool:
    """Whether any of `members` lies on a face of the volume."""
    index = np.unravel_index(material.flat[members], material.shape)
    return any(bool(((i == 0) | (i == n - 1)).any()) for i, n in zip(index, material.shape, strict=True))


def _hangs_on(scrap: Members, bone: Members, material: _Material) -> bool:
    """Whether most of `scrap` is connected with `bone`."""
    if not len(bone):
        return False
    in_largest, _ = _part_sizes(material.flat[np.concatenate([scrap, bone])], material.shape)
    return bool(in_largest[: len(scrap)].mean() > 0.5)


def _finished(draft: _Draft, material: _Material) -> Chain:
    """The chain from the head downward, loose fragments dropped, on the grid's own voxel indices."""
    draft.flip()
    shape = material.shape
    arcs = _arcs(draft, material)
    bones = []
    for members, kind, arc in zip(draft.bones, draft.kinds, arcs, strict=True):
        voxels = _main_part(material.flat[members], shape)
        bones.append(Bone(kind, voxels, arc, len(voxels) * material.cloud.voxel_mm3))
    discs: list[Disc | None] = []
    for seam in draft.seams:
        if seam is None or not seam.is_disc:
            discs.append(None)
            continue
        voxels = _main_part(material.flat[seam.members], shape)
        discs.append(Disc(voxels, seam.arc_mm, len(voxels) * material.cloud.voxel_mm3, seam.area_mm2))
    return Chain(tuple(bones), tuple(discs), tuple(draft.trusted), dict(draft.doubts))


def _arcs(draft: _Draft, material: _Material) -> list[float]:
    """Arc length of each bone's middle; of a bone not seen, the middle of the discs next to it."""
    arcs = []
    for k, members in enumerate(draft.bones):
        if len(members):
            arcs.append(float(np.median(material.cloud.arc_mm[members])))
            continue
        beside = [s.arc_mm for s in draft.seams[max(k - 1, 0) : k + 1] if s is not None]
        arcs.append(float(np.mean(beside)) if beside else 0.0)
    return arcs


def _main_part(voxels: Members, shape: tuple[int, ...]) -> Members:
    """The largest connected part of `voxels` (flat indices) with any other of a fair size."""
    if not len(voxels):
        return voxels
    _, share = _part_sizes(voxels, shape)
    main: Members = voxels[share >= FRAGMENT_SHARE]
    return main


def _part_sizes(voxels: Members, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
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
