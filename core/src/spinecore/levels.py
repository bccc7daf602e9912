"""Names of the levels, counted from anchors: a wrong name is worse than none.

The sacrum names upward (the disc above it is L5/S1, the body above that L5), C2 names downward. Where both
are in view the 22 mobile vertebrae C3…L5 must lie between them: another count means transitional anatomy
(T13, L6, a sacralised L5, a lumbarised S1) or an error. One more or less, with every disc and vertebra seen,
is taken for anatomy: it lies at one of the two lower junctions, so the levels down to T11 keep their names
from C2, and those below get none. Otherwise nothing in between is named. Counting stops wherever the chain is
not trusted or two neighbours lie too far apart.

What one anchor alone promises: the place in the count from that anchor, in a spine of the usual number of
vertebrae. About one person in ten has another number; from the sacrum upward this makes L6 an "L5" and
everything above it one off, and nothing in view can tell. Names past the thoracolumbar junction presume the
usual number of the region in between as well, which the reason then says.

A region hint is no anchor. It is used only where an end of the column is determined by anatomy: the lowest
disc in view is complete, the canal and the field of view go on below it and no further body follows, so what
lies below is an unrecognised sacrum (hint "lumbar"); mirrored, an unrecognised C2 (hint "cervical"). Then
levels are named, and flagged. A thoracic stretch without an anchor is never named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spinecore.chain import Chain, Disc, Kind
from spinecore.labels import (
    C2,
    FIRST_UNNAMED_VERTEBRA,
    LAST_UNNAMED_VERTEBRA,
    MOBILE_VERTEBRAE,
    SACRUM,
    VERTEBRA_NAMES,
    disc_label,
)

SHORT_LINK_SHARE = (
    0.62  # of the local pitch: discs nearer than this do not have a whole vertebra between them
)
LONG_LINK_SHARE = 1.6  # of the local pitch: neighbours farther apart have missed a level between them
RUDIMENT_SHARE = 0.65  # of the neighbours' footprint: a last disc this small may lie within the sacrum
THIN_RUDIMENT_SHARES = (0.8, 0.4)  # or its footprint and its volume this small
MIN_LUMBAR_PITCH_MM = 22.0  # levels closer together than this do not end in a sacrum
MAX_CERVICAL_PITCH_MM = 28.0  # levels farther apart than this do not begin with C2
OPEN_END_MM = 30.0  # how far the field of view must go on past an end that a hint is to name
OPEN_CANAL_MM = 15.0  # and the canal
REGIONS = ("cervical", "thoracic", "lumbar")
T11, T12, L1 = 18, 19, 20


@dataclass(frozen=True)
class OpenEnd:
    """What is in view beyond one end of the chain, in mm along the column: canal, and field of view."""

    canal_mm: float = 0.0
    view_mm: float = 0.0


@dataclass(frozen=True)
class Naming:
    """Labels of the bones of a chain (head first) and how they came about.

    method: "sacrum", "c2", "sacrum+c2", "hint" or "none". named: whether any level got a name.
    codes: stable codes for warnings, e.g. ``"transitional_anatomy"``.
    """

    labels: tuple[int, ...]
    method: str
    reason: str
    codes: tuple[str, ...] = ()

    @property
    def named(self) -> bool:
        return self.method != "none"

    def name_of(self, index: int) -> str | None:
        """Name of bone `index`, None where it is not named."""
        return VERTEBRA_NAMES.get(self.labels[index])


def name_levels(
    chain: Chain,
    *,
    region: str | None = None,
    above: OpenEnd | None = None,
    below: OpenEnd | None = None,
) -> Naming:
    """Name the bones of `chain`; `above` and `below` say what is in view beyond its ends."""
    counts = _Counts(chain)
    sacrum, why_not_sacrum = _usable_sacrum(chain)
    c2, why_not_c2 = _usable_c2(chain)
    if sacrum is not None and c2 is not None:
        naming = _from_both(counts, c2, sacrum)
    elif sacrum is not None:
        naming = _by_sacrum(counts, sacrum)
    elif c2 is not None:
        naming = _by_c2(counts, c2)
    else:
        naming = _by_hint(counts, region, above or OpenEnd(), below or OpenEnd())
    doubts = [d for d in (why_not_sacrum, why_not_c2) if d]
    codes = ("anchor_in_doubt",) if doubts and sacrum is None and c2 is None else ()
    return replace(naming, reason=" ".join([naming.reason, *doubts]), codes=codes + naming.codes)


class _Counts:
    """Labels of a chain while they are counted; 0 where there is none yet."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.links = trusted_links(chain)
        self.labels = [0] * len(chain.bones)
        self.stopped = False

    def up_from(self, start: int, label: int) -> None:
        """Name bone `start` and, cranially of it, as far as the links hold."""
        for i in range(start, -1, -1):
            if label < C2 or (i < start and not self.links[i]):
                self.stopped = True
                return
            self.labels[i] = label
            label = _next(label, -1)

    def down_from(self, start: int, label: int) -> None:
        """Name bone `start` and, caudally of it, as far as the links hold."""
        for i in range(start, len(self.labels)):
            if label > SACRUM or (i > start and not self.links[i - 1]):
                self.stopped = True
                return
            self.labels[i] = label
            label = _next(label, 1)

    def result(self, method: str, reason: str, codes: tuple[str, ...] = ()) -> Naming:
        """The naming, with 71, 72, … from the top for bones without a name."""
        free = iter(range(FIRST_UNNAMED_VERTEBRA, LAST_UNNAMED_VERTEBRA + 1))
        sure = Kind.SACRUM not in self.chain.doubts  # a sacrum in doubt may be L5: it gets no name either
        known = [
            SACRUM if bone.kind is Kind.SACRUM and sure else label
            for bone, label in zip(self.chain.bones, self.labels, strict=True)
        ]
        labels = tuple(label or next(free, LAST_UNNAMED_VERTEBRA) for label in known)
        if self.stopped and any(self.labels):
            codes, reason = (*codes, "chain_gap"), f"{reason} Counting stopped at a gap."
        return Naming(labels, method, reason, codes)


def _next(label: int, step: int) -> int:
    """The label one level down (+1) or up (-1) in a spine of the usual count: S1 (26) follows L5 (24)."""
    order = [C2, *MOBILE_VERTEBRAE, SACRUM]
    place = order.index(label) + step
    return order[place] if 0 <= place < len(order) else (0 if step < 0 else SACRUM + 1)


def trusted_links(chain: Chain) -> list[bool]:
    """(len(bones) - 1,) whether counting may go from one bone to the next: trusted and not too far apart."""
    arcs = np.array([bone.arc_mm for bone in chain.bones])
    gaps = np.abs(np.diff(arcs))
    mobile = [
        i
        for i in range(len(gaps))
        if chain.bones[i].kind is Kind.BODY and chain.bones[i + 1].kind is Kind.BODY
    ]
    links = list(chain.trusted)
    areas = [disc.area_mm2 for disc in chain.discs if disc is not None]
    usual = float(np.sqrt(np.median(areas))) if areas else np.inf  # about the pitch, see `expected_pitch_mm`
    for i in mobile:
        near = sorted((j for j in mobile if j != i), key=lambda j: abs(j - i))[:4]
        pitch = float(np.median(gaps[near])) if len(near) > 1 else usual
        links[i] = links[i] and bool(gaps[i] <= LONG_LINK_SHARE * pitch)
    for i in _squeezed(chain):
        links[i - 1] = links[i] = False
    return links


def _squeezed(chain: Chain) -> list[int]:
    """Bones between two discs that lie too near to each other, judged by the discs around them."""
    room = {
        i: abs(above.arc_mm - below.arc_mm)
        for i in range(1, len(chain.bones) - 1)
        if (above := chain.discs[i - 1]) is not None and (below := chain.discs[i]) is not None
    }
    found = []
    for i, mm in room.items():
        near = sorted((j for j in room if j != i), key=lambda j: abs(j - i))[:4]
        if len(near) > 1 and mm < SHORT_LINK_SHARE * float(np.median([room[j] for j in near])):
            found.append(i)
    return found


def _pitch_mm(chain: Chain, bones: slice) -> float | None:
    """Median distance of neighbouring bodies among `bones`, None with fewer than two."""
    arcs = [bone.arc_mm for bone in chain.bones[bones] if bone.kind is Kind.BODY]
    return float(np.median(np.abs(np.diff(arcs)))) if len(arcs) > 1 else None


def _usable_sacrum(chain: Chain) -> tuple[int | None, str]:
    """Place of a sacrum that can be counted from, or None and why not (empty where there is none)."""
    place = chain.index_of(Kind.SACRUM)
    if Kind.SACRUM in chain.doubts:
        return None, f"The sacrum was not used as an anchor: {chain.doubts[Kind.SACRUM]}."
    if place is None:
        return None, ""
    if place == 0:
        return place, ""
    if _may_be_rudimentary(chain, place - 1):
        return None, "The sacrum was not used as an anchor: the disc above it may lie between S1 and S2."
    pitch = _pitch_mm(chain, slice(max(place - 4, 0), place))
    if pitch is not None and pitch < MIN_LUMBAR_PITCH_MM:
        return None, "The sacrum was not used as an anchor: the levels above it are not of lumbar size."
    return place, ""


def _may_be_rudimentary(chain: Chain, last: int) -> bool:
    """Whether disc `last` is narrower than those above it, or somewhat narrower and much thinner."""
    disc = chain.discs[last]
    others = [d for d in chain.discs[max(last - 3, 0) : last] if d is not None]
    if disc is None or not others:
        return False
    area = disc.area_mm2 / float(np.median([d.area_mm2 for d in others]))
    volume = disc.volume_mm3 / float(np.median([d.volume_mm3 for d in others]))
    return area < RUDIMENT_SHARE or (area < THIN_RUDIMENT_SHARES[0] and volume < THIN_RUDIMENT_SHARES[1])


def _usable_c2(chain: Chain) -> tuple[int | None, str]:
    """Place of a C2 that can be counted from, or None and why not (empty where there is none)."""
    place = chain.index_of(Kind.C2)
    if Kind.C2 in chain.doubts:
        return None, f"C2 was not used as an anchor: {chain.doubts[Kind.C2]}."
    if place is None:
        return None, ""
    pitch = _pitch_mm(chain, slice(place + 1, place + 5))
    if pitch is not None and pitch > MAX_CERVICAL_PITCH_MM:
        return None, "C2 was not used as an anchor: the levels below it are not of cervical size."
    return place, ""


def _by_sacrum(counts: _Counts, sacrum: int) -> Naming:
    counts.up_from(sacrum, SACRUM)
    reason = "Counted upward from the sacrum."
    if any(0 < label < L1 for label in counts.labels):
        reason += " Levels above L1 presume five lumbar vertebrae, which one anchor cannot prove."
    return counts.result("sacrum", reason)


def _by_c2(counts: _Counts, c2: int) -> Naming:
    counts.down_from(c2, C2)
    reason = "Counted downward from C2."
    if any(label > T12 for label in counts.labels):
        reason += " Levels below T12 presume twelve thoracic vertebrae, which one anchor cannot prove."
    return counts.result("c2", reason)


def _from_both(counts: _Counts, c2: int, sacrum: int) -> Naming:
    """Both anchors: they must agree; across a gap each names its own side."""
    between = sacrum - c2 - 1
    whole = all(counts.links[c2:sacrum])
    if whole and between != len(MOBILE_VERTEBRAE):
        return _off_count(counts, c2, sacrum)
    counts.down_from(c2, C2)
    counts.up_from(sacrum, SACRUM)
    reason = "Counted from C2 and from the sacrum" + (", which agree." if whole else ".")
    return counts.result("sacrum+c2", reason)


def _off_count(counts: _Counts, c2: int, sacrum: int) -> Naming:
    """Both anchors, and between them another number of vertebrae than usual."""
    between = sacrum - c2 - 1
    chain = counts.chain
    seen = all(bone.seen for bone in chain.bones[c2:sacrum])
    seen = seen and all(disc is not None for disc in chain.discs[c2:sacrum])
    reason = (
        f"{between} vertebrae lie between C2 and the sacrum instead of {len(MOBILE_VERTEBRAE)}: transitional "
        "anatomy (T13, L6, sacralised L5, lumbarised S1) or a missed level. "
    )
    if abs(between - len(MOBILE_VERTEBRAE)) > 1 or not seen:
        counts.labels[c2], counts.labels[sacrum] = C2, SACRUM
        return counts.result("none", reason + "None of them is named.", ("transitional_anatomy",))
    label = C2
    for i in range(c2, sacrum):
        counts.labels[i] = label if label <= T11 else 0
        label += 1
    counts.labels[sacrum] = SACRUM
    reason += "Levels down to T11 are counted from C2, those below are not named."
    return counts.result("sacrum+c2", reason, ("transitional_anatomy",))


def _by_hint(counts: _Counts, region: str | None, above: OpenEnd, below: OpenEnd) -> Naming:
    """No anchor: only an end that anatomy determines can be named, and only where the hint says which."""
    bones = counts.chain.bones
    if region == "lumbar" and _ends_in_disc(counts.chain, -1) and _is_open(below):
        counts.up_from(len(bones) - 1, SACRUM)
    elif region == "cervical" and _ends_in_disc(counts.chain, 0) and _is_open(above):
        counts.down_from(0, C2)
    else:
        why = "Neither the sacrum nor C2 can be counted from"
        if region:
            why += f", and the hint “{region}” alone does not fix the number of a level"
        return counts.result("none", f"{why}; levels are numbered from the top.", ("levels_unnamed",))
    reason = f"No anchor: the hint “{region}” and the end of the column in view were used."
    return counts.result("hint", reason, ("named_by_hint",))


def _ends_in_disc(chain: Chain, end: int) -> bool:
    """Whether a disc without a bone beyond it closes this end (0 top, -1 bottom) of the chain."""
    if len(chain.bones) < 4:
        return False
    disc: Disc | None = chain.discs[end]
    return disc is not None and not chain.bones[end].seen


def _is_open(end: OpenEnd) -> bool:
    return end.view_mm >= OPEN_END_MM and end.canal_mm >= OPEN_CANAL_MM


def disc_labels(naming: Naming) -> tuple[int, ...]:
    """Labels (len(bones) - 1,) of the discs: 100 + the label of the vertebra above."""
    return tuple(disc_label(label) for label in naming.labels[:-1])
