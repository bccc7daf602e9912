"""Stretches between two discs that hold more, or less, than one vertebra."""

from __future__ import annotations

import numpy as np

from spinecore.chain import Kind
from spinecore.draft import Draft, Material, bone_length_mm, interval_of, pitch_at
from spinecore.separators import LONG_SHARE, Members, expected_pitch_mm, waists

LONG_END_SHARE = 1.35  # of the pitch: bone beyond the last disc this long is more than one vertebra
TEAR_MM = 3.0
MIN_PIECE_SHARE = 0.35  # a piece cut off a long bone is at least this share of the largest one
MISSED_PITCH = (0.6, 1.5)  # two discs without bone between them hold exactly one vertebra at these distances
BLOCK_SHARE = (1.6, 2.5)  # of the pitch and of a usual vertebra's volume: two vertebrae that are one block
MIN_BONE_SHARE = 0.12  # less bone than this share of a usual vertebra is not one


def cut_long_bones(draft: Draft, material: Material) -> None:
    """Divide body intervals too long for one vertebra at their waists; where there is none, trust ends."""
    k = 0
    while k < len(draft.bones):
        pieces = _pieces(draft, material, k) if draft.kinds[k] is Kind.BODY else 1
        if pieces > 1:
            k += _cut(draft, material, k, pieces)
        k += 1


def _pieces(draft: Draft, material: Material, k: int) -> int:
    """How many vertebrae the length of bone k has room for."""
    discs = [s for s in draft.seams if s is not None]
    if not discs or not len(draft.bones[k]):
        return 1
    pitch, room = pitch_at(draft, k), _room_mm(draft, k)
    if room is not None:
        length, limit = room, LONG_SHARE
    else:
        length, limit = bone_length_mm(draft.bones[k], material), LONG_END_SHARE
    return max(round(length / pitch), 2) if length >= limit * pitch else 1


def _cut(draft: Draft, material: Material, k: int, pieces: int) -> int:
    """Cut bone k; the number of bones added.

    At clear waists counting goes on, and in the middle of what is as long and as large as two vertebrae (a
    block vertebra, or a disc too thin to be seen). Otherwise it is cut only where nothing holds it together,
    and not trusted: across such a tear, or, if there is none, at both ends of the bone.
    """
    members = draft.bones[k]
    cuts = waists(material.cloud, members, material.column, pieces=pieces)
    owner = interval_of(material.cloud, members, cuts)
    parts = [members[owner == j] for j in range(len(cuts) + 1)]
    clear = bool(cuts) and _alike(parts, material, pitch=pitch_at(draft, k))
    if not clear and pieces == 2 and _is_block(draft, material, k):
        parts, clear = _halves(members, material), True
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


def _room_mm(draft: Draft, k: int) -> float | None:
    """From the seam below bone k to the one above it, along the column; None where one is missing."""
    below, above = (draft.seams[j] if 0 <= j < len(draft.seams) else None for j in (k - 1, k))
    return None if below is None or above is None else above.arc_mm - below.arc_mm


def _usual_volume_near(draft: Draft, material: Material, k: int) -> float | None:
    """Median volume in mm³ of the (up to four) bones next to bone k, itself left out; None without any."""
    near = [material.volume(m) for j, m in enumerate(draft.bones) if 0 < abs(j - k) <= 2 and len(m)]
    return float(np.median(near)) if near else None


def _is_block(draft: Draft, material: Material, k: int) -> bool:
    """Whether bone k, between two discs, has both the length and the volume of two vertebrae."""
    room, usual = _room_mm(draft, k), _usual_volume_near(draft, material, k)
    if room is None or usual is None:
        return False
    shares = (room / pitch_at(draft, k), material.volume(draft.bones[k]) / usual)
    return BLOCK_SHARE[0] <= min(shares) and max(shares) <= BLOCK_SHARE[1]


def _halves(members: Members, material: Material) -> list[Members]:
    """`members` divided in the middle of their extent along the column."""
    arcs = material.cloud.arc_mm[members]
    upper = arcs > (np.percentile(arcs, 1) + np.percentile(arcs, 99)) / 2
    return [members[~upper], members[upper]]


def _torn(members: Members, material: Material) -> list[Members]:
    """`members` divided where there is nothing for `TEAR_MM` along the column, without small pieces."""
    order = np.argsort(material.cloud.arc_mm[members])
    arcs = material.cloud.arc_mm[members][order]
    parts = np.split(members[order], np.flatnonzero(np.diff(arcs) > TEAR_MM) + 1)
    largest = max(len(part) for part in parts)
    return [part for part in parts if len(part) >= MIN_PIECE_SHARE * largest]


def _alike(parts: list[Members], material: Material, *, pitch: float) -> bool:
    """Whether the pieces of a cut bone are each of one vertebra's size: none tiny, none too long."""
    sizes = [len(part) for part in parts]
    if min(sizes) < MIN_PIECE_SHARE * max(sizes):
        return False
    return all(bone_length_mm(part, material) < LONG_END_SHARE * pitch for part in parts)


def judge_empty_intervals(draft: Draft, material: Material) -> None:
    """Between two discs without bone: one missed vertebra if the distance fits one, otherwise no trust."""
    discs = [s for s in draft.seams if s is not None]
    for k in range(1, len(draft.bones) - 1):
        below, room = draft.seams[k - 1], _room_mm(draft, k)
        if below is None or room is None:
            continue
        enough = MIN_BONE_SHARE * (_usual_volume_near(draft, material, k) or 0.0)
        if len(draft.bones[k]) and material.volume(draft.bones[k]) >= enough:
            continue
        draft.bones[k] = np.empty(0, dtype=np.intp)
        pitch = expected_pitch_mm(discs, discs.index(below) + 1)
        fits = MISSED_PITCH[0] <= room / pitch <= MISSED_PITCH[1]
        draft.trusted[k - 1] = draft.trusted[k - 1] and fits
        draft.trusted[k] = draft.trusted[k] and fits
