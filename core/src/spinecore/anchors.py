"""The two ends of a draft: what is the anchor there (sacrum, C2), what is a vertebra, what is neither.

An anchor must be the outermost bone of its end and reach the level next to it. How much of it must be seen
depends on what else speaks for it: where image and canal go on beyond the last disc for more than a vertebra
and no other bone follows, the column ends there, as it does at C2 and the sacrum only, so that a part of an
anchor is enough (under-segmented anchors look so); at the border of the image a cut vertebra may be mistaken
for one, and more is asked: of C2 the length that only its dens gives it. Where the classes leave more
than one reading open, e.g. a body that runs into the sacrum without a disc between, the reading that counts
levels is not trusted: the anchor is kept, and put in doubt with a reason.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from spinecore.chain import Kind
from spinecore.draft import (
    CLASS_OF_KIND,
    Draft,
    Material,
    bone_length_mm,
    part_sizes,
    pitch_at,
    usual_volume,
)
from spinecore.labels import Class
from spinecore.separators import Members, Separator

MIN_ANCHOR_MM3 = {Kind.SACRUM: 4000.0, Kind.C2: 2000.0}
MIN_ENDING_ANCHOR_MM3 = {Kind.SACRUM: 1000.0, Kind.C2: 400.0}  # where the column ends within the image
# Discs next to an anchor of which little is seen: a neck's are smaller than this, a loin's larger.
MAX_NECK_DISC_MM2 = 500.0
MIN_LOIN_DISC_MM2 = 500.0
DENS_SHARE = 1.0  # of the pitch: with a part of its dens C2 is longer than this, no other body nearly as long
ONE_BONE_SHARE = 1.6  # of the pitch: bone beyond the last disc shorter than this is one bone of two classes
# A disc within an anchor (S1/S2, the seam in C2) is smaller than this share of the next ones.
RUDIMENT_SHARE = {Kind.SACRUM: 0.45, Kind.C2: 0.65}
MIXED_SHARE = 0.1  # a sacrum with disc among it, more than this share of its volume, is a guess
WHOLE_BODY_SHARE = 0.7  # a body sharing an anchor's interval is a vertebra from this share of its neighbour
SCRAP_SHARE = 0.3  # and part of the anchor below this one; between the two the anchor is in doubt
CONTACT_MM = 2.5  # bones this near touch
CONTACT_SHARE = 0.15  # of a disc's footprint
REACH_MM = 10.0  # an anchor farther than this from the next disc or bone has lost a level between
SCRAP_JOIN_SHARE = 0.12
SCRAP_DROP_SHARE = 0.01
STRAY_SHARE = 0.4  # bone at an end that is neither whole nor cut by the field of view is no vertebra
SCRAP_DISC_SHARE = 0.5  # of the next discs' footprints: an outermost disc at the border below this is none


def settle_anchor(draft: Draft, material: Material, anchor: Kind, *, ends_in_view: bool = False) -> None:
    """Make the anchor the outermost bone of its end, or turn it into a body and say why.

    ends_in_view: image and canal go on beyond this end's outermost disc for more than a vertebra.
    Works on the lower end; for C2 the draft is turned upside down meanwhile.
    """
    if anchor is Kind.C2:
        draft.flip()
    _absorb_rudiments(draft, material, anchor)
    _split_shared_end(draft, material, anchor, ends_in_view=ends_in_view)
    _return_wings(draft, material, anchor)
    if draft.kinds[0] is anchor and len(draft.bones) > 1 and not _reaches_its_neighbour(draft, material):
        draft.doubts.setdefault(anchor, "it lies too far from the level next to it")
    for k in range(1, len(draft.bones)):
        if draft.kinds[k] is anchor:
            draft.kinds[k] = Kind.BODY
            draft.doubts.setdefault(anchor, "it is not at its end of the column")
    if anchor is Kind.C2:
        draft.flip()


def _absorb_rudiments(draft: Draft, material: Material, anchor: Kind) -> None:
    """Join everything beyond the innermost interval of `anchor` to it, if no whole disc divides it.

    A disc counts only if the bone on its inner side is as large as a vertebra: specks of disc within an
    anchor cut off mere scraps.
    """
    held = [k for k, kind in enumerate(draft.kinds) if kind is anchor and k < len(draft.bones)]
    inner = max(held, default=0)
    if inner == 0:
        return
    own = [s for s in draft.seams[inner : inner + 3] if s is not None]
    usual = float(np.median([material.volume(m) for m in draft.bones[inner + 1 : inner + 4]] or [0.0]))
    whole = [material.volume(m) >= WHOLE_BODY_SHARE * usual for m in draft.bones[1 : inner + 1]]
    beyond = [s for s, above in zip(draft.seams, whole, strict=False) if s is not None and above]
    if not own or any(_size_share(disc, own) >= RUDIMENT_SHARE[anchor] for disc in beyond):
        draft.doubts[anchor] = "a disc of full size lies within it"
        return
    joined = np.concatenate(draft.bones[: inner + 1])
    draft.bones[: inner + 1] = [joined]
    draft.kinds[: inner + 1] = [anchor]
    del draft.seams[:inner], draft.trusted[:inner]


def _size_share(disc: Separator, others: list[Separator]) -> float:
    """Footprint or volume of `disc`, whichever is larger, as a share of that of `others`."""
    area = disc.area_mm2 / float(np.median([other.area_mm2 for other in others]))
    volume = len(disc.members) / float(np.median([len(other.members) for other in others]))
    return max(area, volume)


def _split_shared_end(draft: Draft, material: Material, anchor: Kind, *, ends_in_view: bool) -> None:
    """Where a body and the anchor share the end interval (no disc seen), divide it by class."""
    end = draft.bones[0]
    is_anchor = material.classes[end] == CLASS_OF_KIND[anchor]
    body = end[material.classes[end] == Class.BODY]
    ending = ends_in_view and _discs_fit(draft, anchor)
    doubt = _too_little(draft, material, anchor, end[is_anchor], ends_in_view=ends_in_view, ending=ending)
    if doubt is not None:
        draft.kinds[0] = Kind.BODY
        if is_anchor.any():
            draft.doubts[anchor] = doubt
        return
    share = material.volume(body) / usual_volume(draft, material)
    one_bone = ending and bone_length_mm(end, material) < ONE_BONE_SHARE * abs(pitch_at(draft, 0))
    if share < SCRAP_SHARE or one_bone:
        draft.kinds[0] = anchor
        return
    draft.bones[:1] = [end[is_anchor], body]
    draft.kinds[:1] = [anchor, Kind.BODY]
    draft.seams.insert(0, None)
    draft.trusted.insert(0, True)
    if share < WHOLE_BODY_SHARE or _in_contact(draft, material) or _sliver_between(draft, material):
        draft.doubts[anchor] = "the bone next to it could be a vertebra or part of it"


def _too_little(
    draft: Draft, material: Material, anchor: Kind, members: Members, *, ends_in_view: bool, ending: bool
) -> str | None:
    """Why `members` of the anchor's class at the end do not make an anchor; None if they do."""
    least = (MIN_ENDING_ANCHOR_MM3 if ending else MIN_ANCHOR_MM3)[anchor]
    if material.volume(members) < least:
        return "too little of it is in view"
    if anchor is Kind.SACRUM and _disc_beyond(draft, material) > MIXED_SHARE * material.volume(members):
        return "pieces of disc lie among it, which no sacrum has"
    if anchor is Kind.C2 and not ends_in_view and len(draft.bones) > 1:
        length = bone_length_mm(members, material)
        if length < DENS_SHARE * abs(pitch_at(draft, 0)):
            return "the image ends there, and what is in view may be any cervical vertebra"
    return None


def _disc_beyond(draft: Draft, material: Material) -> float:
    """Volume in mm³ of disc voxels beyond the outermost disc of the lower end that make no disc of their own.

    Where an image shows little (dark, oblique, cut by the border) a network wavers between sacrum, body and
    disc from voxel to voxel. A sacrum that it does see holds a rudiment of disc at the most.
    """
    left, arc = _unused_disc(draft, material), material.cloud.arc_mm
    if len(draft.bones) < 2 or not len(left):
        return 0.0
    inner = float(np.median(arc[draft.bones[1]]))
    seam = draft.seams[0]
    edge = float(np.median(arc[seam.members])) if seam is not None and len(seam.members) else inner
    outward = np.sign(float(np.median(arc[draft.bones[0]])) - inner)
    return float(material.volume(left[(arc[left] - edge) * outward > 0]))


def _unused_disc(draft: Draft, material: Material) -> Members:
    """Disc voxels that belong to no disc of the draft."""
    used = [seam.members for seam in draft.seams if seam is not None]
    disc = np.flatnonzero(material.classes == Class.DISC)
    return np.setdiff1d(disc, np.concatenate([*used, []])).astype(np.intp)


def _discs_fit(draft: Draft, anchor: Kind) -> bool:
    """Whether the discs next to this end are as small as a neck's, or as large as a loin's."""
    areas = [s.area_mm2 for s in draft.seams[:3] if s is not None and s.is_disc]
    if not areas:
        return False
    area = float(np.median(areas))
    return area <= MAX_NECK_DISC_MM2 if anchor is Kind.C2 else area >= MIN_LOIN_DISC_MM2


def _in_contact(draft: Draft, material: Material) -> bool:
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


def _reaches_its_neighbour(draft: Draft, material: Material) -> bool:
    """Whether the lowest bone comes near the disc above it, or the bone where no disc was seen."""
    seam = draft.seams[0]
    next_one = seam.members if seam is not None and seam.is_disc else draft.bones[1]
    if not len(next_one):
        return False
    points = material.cloud.points
    distance, _ = cKDTree(points[draft.bones[0]]).query(points[next_one], distance_upper_bound=REACH_MM)
    return bool(np.isfinite(distance).any())


def _sliver_between(draft: Draft, material: Material) -> bool:
    """Whether disc voxels too few for a disc lie between the two lowest bones: perhaps the one of S1/S2."""
    low, high = sorted(float(np.median(material.cloud.arc_mm[m])) for m in draft.bones[:2])
    arcs = material.cloud.arc_mm[_unused_disc(draft, material)]
    return bool(((arcs > low) & (arcs < high)).any())


def _return_wings(draft: Draft, material: Material, anchor: Kind) -> None:
    """Give the anchor back what reaches past the disc beside it, as the sacrum's wings beside L5 do."""
    if draft.kinds[0] is not anchor or len(draft.bones) < 2:
        return
    strays = draft.bones[1][material.classes[draft.bones[1]] == CLASS_OF_KIND[anchor]]
    if not len(strays):
        return
    own = draft.bones[0][material.classes[draft.bones[0]] == CLASS_OF_KIND[anchor]]
    both = np.concatenate([own, strays])
    kept = np.isin(strays, both[part_sizes(material.flat[both], material.shape)[0]])
    draft.bones[0] = np.concatenate([draft.bones[0], strays[kept]])
    draft.bones[1] = draft.bones[1][~np.isin(draft.bones[1], strays[kept])]


def settle_scraps(draft: Draft, material: Material) -> None:
    """A little bone beyond the outermost disc that hangs on the bone before it belongs to that one.

    (A disc cut by the field of view has an uncertain plane.) A trace, or a part of a vertebra that ends
    within the field of view, is dropped, and so is the edge of a disc at the border with nothing beyond it.
    """
    for _ in range(2):
        draft.flip()
        _settle_scrap(draft, material)
        _drop_edge_of_a_disc(draft, material)


def _settle_scrap(draft: Draft, material: Material) -> None:
    if len(draft.bones) < 2 or draft.kinds[0] is not Kind.BODY or not len(draft.bones[0]):
        return
    share = material.volume(draft.bones[0]) / usual_volume(draft, material)
    if share < SCRAP_JOIN_SHARE and _hangs_on(draft.bones[0], draft.bones[1], material):
        draft.bones[1] = np.concatenate([draft.bones[1], draft.bones[0]])
        draft.bones[0] = np.empty(0, dtype=np.intp)
    elif share < SCRAP_DROP_SHARE or (share < STRAY_SHARE and not _at_border(draft.bones[0], material)):
        draft.bones[0] = np.empty(0, dtype=np.intp)


def _drop_edge_of_a_disc(draft: Draft, material: Material) -> None:
    """A last disc of which the border of the image leaves a corner cannot be told from a dark endplate."""
    seam = draft.seams[0] if draft.seams else None
    others = [s.area_mm2 for s in draft.seams[1:4] if s is not None and s.is_disc]
    if seam is None or len(draft.bones[0]) or not others or not _at_border(seam.members, material):
        return
    if seam.area_mm2 < SCRAP_DISC_SHARE * float(np.median(others)):
        del draft.bones[0], draft.kinds[0], draft.seams[0], draft.trusted[0]


def _at_border(members: Members, material: Material) -> bool:
    """Whether any of `members` lies on a face of the volume."""
    index = np.unravel_index(material.flat[members], material.shape)
    return any(bool(((i == 0) | (i == n - 1)).any()) for i, n in zip(index, material.shape, strict=True))


def _hangs_on(scrap: Members, bone: Members, material: Material) -> bool:
    """Whether most of `scrap` is connected with `bone`."""
    if not len(bone):
        return False
    in_largest, _ = part_sizes(material.flat[np.concatenate([scrap, bone])], material.shape)
    return bool(in_largest[: len(scrap)].mean() > 0.5)
