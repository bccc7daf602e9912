"""Scores of one served analysis against a case's reference: overlap, level names, millimetres.

Definitions
-----------
Dice
    Per group of labels over the whole volume: bodies (C3…L6, named or not), C2, discs, canal, sacrum; and per
    structure, against whatever one vertebra or disc of ours overlaps it most, under any name. None where the
    reference shows fewer than `MIN_VOXELS` voxels (an edge of it in the field of view). Voxels the reference
    ignores (endplates) count for neither side.
Right name
    A named vertebra or disc is right if its label's voxels lie mostly in the true structure of that name.
Recall
    Of the true levels that lie wholly in the field of view of a volume with an anchor (C2 or sacrum) in it:
    the share that is found under its own name. Volumes that show only an edge of an anchor are counted apart.
Measurement errors
    Ours minus the reference in mm, over levels wholly in view whose own voxels are mostly one found level.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spine_training.evaluation.reference import (
    MIN_VOXELS,
    LabelMap,
    Level,
    Reference,
    Values,
    body_errors,
    body_values,
    report_errors,
    report_values,
)
from spinecore.labels import C2, CANAL, DISC_OFFSET, FIRST_UNNAMED_VERTEBRA, SACRUM, VERTEBRA_NAMES

if TYPE_CHECKING:
    from spine_client import SpineResult

MIN_SHARE = 0.5
GROUPS: dict[str, frozenset[int]] = {
    "body": frozenset(range(3, 26)) | {28} | frozenset(range(71, 100)),
    "disc": frozenset(range(101, 130)) | frozenset(range(171, 200)),
    "canal": frozenset({CANAL}),
    "sacrum": frozenset({SACRUM}),
    "c2": frozenset({C2}),
}
METHODS = ("reported", "cnn", "geometric")
REGION_OF_LETTER = {"C": "cervical", "T": "thoracic", "L": "lumbar", "S": "sacral"}
Joint = NDArray[np.int64]  # (256, 256): voxels by reference label (row) and found label (column)


@dataclass(frozen=True)
class NameScore:
    """Counts of levels: named by us, of these right, true and to be found, of these found and named right.

    edge_expected, edge_recalled: the last two in volumes that show only an edge of an anchor.
    """

    named: int = 0
    right: int = 0
    expected: int = 0
    recalled: int = 0
    edge_expected: int = 0
    edge_recalled: int = 0

    def __add__(self, other: NameScore) -> NameScore:
        return NameScore(
            self.named + other.named,
            self.right + other.right,
            self.expected + other.expected,
            self.recalled + other.recalled,
            self.edge_expected + other.edge_expected,
            self.edge_recalled + other.edge_recalled,
        )


@dataclass(frozen=True)
class StructureScore:
    """Overlap of one true vertebra, disc, or other structure; level is None where it has no name."""

    level: str | None
    kind: str
    dice: float


@dataclass(frozen=True)
class LevelScore:
    """One true level wholly in view, by its vertebra (a disc by the one above it).

    found: whether one found level is mostly it. named: the name that one got. true_mm: by quantity. found_mm,
    error_mm (the standard errors stated): method -> quantity.
    """

    level: str | None
    kind: str
    found: bool
    named: str | None = None  # the found level's own name, for a disc with both its vertebrae
    true_mm: Values = field(default_factory=dict)
    found_mm: dict[str, Values] = field(default_factory=dict)
    error_mm: dict[str, Values] = field(default_factory=dict)


@dataclass
class CaseScore:
    """Scores of one volume.

    claims : every disc we named, by its upper vertebra, with the one that it really is (None: none).
    unnamed, found : levels we left without a name, and all we found.
    """

    case: str
    groups: tuple[str, ...]
    dice: dict[str, float | None]
    structures: list[StructureScore]
    names: NameScore
    wrong_names: list[str]
    levels: list[LevelScore]
    claims: list[tuple[str, str | None]]
    unnamed: int
    found: int
    anchor: bool
    source: str
    method: str
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def discs(self) -> list[LevelScore]:
        """The true discs wholly in view."""
        return [level for level in self.levels if level.kind == "disc"]

    def errors_mm(self, method: str, quantity: str) -> list[float]:
        """Ours minus the reference, of every level that has both."""
        pairs = (
            (level.found_mm.get(method, {}).get(quantity), level.true_mm.get(quantity))
            for level in self.levels
        )
        return [found - true for found, true in pairs if found is not None and true is not None]


def score_case(
    reference: Reference, result: SpineResult, *, case: str, groups: tuple[str, ...] = ()
) -> CaseScore:
    """All scores of one case and what the server made of it."""
    report = result.to_dict()
    joint = joint_counts(reference, result.labels)
    entries = [*report["vertebrae"], *report["discs"]]
    named = [item["label"] for item in entries if item["name"]]
    names, wrong = score_names(joint, named, reference)
    return CaseScore(
        case=case,
        groups=groups,
        dice=dice_of_groups(joint),
        structures=dice_of_structures(joint, named=reference.named),
        names=names,
        wrong_names=wrong,
        levels=score_levels(joint, reference, report),
        claims=_claims(joint, report["discs"]) if reference.named else [],
        unnamed=sum(not item["name"] for item in entries),
        found=len(entries),
        anchor=reference.has_anchor,
        source=reference.source,
        method=report["naming"]["method"],
        seconds=result.elapsed_s,
        details={"reason": report["naming"]["reason"], "warnings": [w["code"] for w in report["warnings"]]},
    )


def joint_counts(reference: Reference, found: LabelMap) -> Joint:
    """Voxels by reference label (row) and found label (column), without the ignored ones."""
    both = reference.labels.astype(np.int64) * 256 + found
    kept = both.ravel() if reference.ignored is None else both[~reference.ignored]
    return np.bincount(kept, minlength=256 * 256).reshape(256, 256).astype(np.int64)


def dice_of_groups(joint: Joint) -> dict[str, float | None]:
    """Dice per group of `GROUPS`; None where the reference hardly shows the group."""
    scores: dict[str, float | None] = {}
    for group, members in GROUPS.items():
        labels = sorted(members)
        true, ours = int(joint[labels].sum()), int(joint[:, labels].sum())
        shared = int(joint[np.ix_(labels, labels)].sum())
        scores[group] = 2.0 * shared / (true + ours) if true >= MIN_VOXELS else None
    return scores


def dice_of_structures(joint: Joint, *, named: bool) -> list[StructureScore]:
    """Dice of every structure the reference shows, against the found one that overlaps it most."""
    sizes, ours = joint.sum(axis=1), joint.sum(axis=0)
    scores = []
    for kind, members in GROUPS.items():
        labels = np.array(sorted(_alike(kind)))
        for label in (n for n in sorted(members) if sizes[n] >= MIN_VOXELS):
            best = int(labels[np.argmax(joint[label, labels])])
            shared = int(joint[label, best])
            dice = 2.0 * shared / int(sizes[label] + ours[best]) if shared else 0.0
            scores.append(StructureScore(_level_name(label) if named else None, kind, dice))
    return scores


def _alike(kind: str) -> frozenset[int]:
    """Labels a structure may be found under: any bone is a bone, whatever its name."""
    bones = GROUPS["body"] | GROUPS["sacrum"] | GROUPS["c2"]
    return bones if kind in ("body", "sacrum", "c2") else GROUPS[kind]


def main_overlap(counts: NDArray[np.int64], allowed: Iterable[int]) -> int | None:
    """The label among `allowed` that holds at least `MIN_SHARE` of the voxels counted (256,), or None."""
    best = max(allowed, key=lambda label: int(counts[label]), default=None)
    enough = best is not None and counts[best] >= MIN_SHARE * max(int(counts.sum()), 1)
    return best if enough else None


def score_names(joint: Joint, named: Collection[int], reference: Reference) -> tuple[NameScore, list[str]]:
    """Names of one volume against the truth, and the wrong ones as ``"L4 is L5"``.

    named: labels of the vertebrae and discs that carry a name in the report. Nothing is counted where the
    reference itself has no names.
    """
    if not reference.named:
        return NameScore(), []
    levels = _levels_in(joint)
    really = {label: main_overlap(joint[:, label], levels) for label in named}
    right = {label for label, true in really.items() if label == true}
    wrong = [f"{_title(label)} is {_title(true)}" for label, true in really.items() if label != true]
    inside = [level.label for level in (*reference.vertebrae, *reference.discs) if level.complete]
    found = (len(inside), sum(label in right for label in inside))
    expected = found if reference.has_anchor else (0, 0)
    edge = found if reference.has_edge_of_anchor else (0, 0)
    return NameScore(len(named), len(right), *expected, *edge), wrong


def _levels_in(joint: Joint) -> list[int]:
    return [int(label) for label in np.flatnonzero(joint.sum(axis=1)) if label not in (0, CANAL)]


def score_levels(joint: Joint, reference: Reference, report: Mapping[str, Any]) -> list[LevelScore]:
    """Every true level wholly in view: whether it was found, its name, and its lengths by each method."""
    scores = []
    for kind, levels, entries in (
        ("vertebra", reference.vertebrae, report["vertebrae"]),
        ("disc", reference.discs, report["discs"]),
    ):
        by_label = {entry["label"]: entry for entry in entries}
        for level in (level for level in levels if level.complete):
            label = main_overlap(joint[level.label], by_label)
            entry = None if label is None else by_label[label]
            scores.append(_level_score(level, kind, entry, named=reference.named))
    return scores


def _level_score(level: Level, kind: str, entry: Mapping[str, Any] | None, *, named: bool) -> LevelScore:
    name = _level_name(level.label) if named else None
    if entry is None:
        return LevelScore(name, kind, False, true_mm=level.values)
    if kind == "disc":
        found = {method: report_values(entry, method) for method in METHODS}
        errors = {method: report_errors(entry, method) for method in METHODS}
    else:
        found = dict.fromkeys(("reported", "geometric"), body_values(entry))
        errors = dict.fromkeys(("reported", "geometric"), body_errors(entry))
    return LevelScore(name, kind, True, entry["name"], level.values, found, errors)


def _claims(joint: Joint, discs: Iterable[Mapping[str, Any]]) -> list[tuple[str, str | None]]:
    true_discs = [label for label in _levels_in(joint) if label > DISC_OFFSET]
    claims = []
    for disc in (disc for disc in discs if disc["name"]):
        really = main_overlap(joint[:, disc["label"]], true_discs)
        claims.append((disc["upper"]["name"], None if really is None else _level_name(really)))
    return claims


def region_of(level: str | None) -> str | None:
    """Region of a level by its vertebra's name."""
    return REGION_OF_LETTER.get(level[0]) if level else None


def _level_name(label: int) -> str | None:
    """Name of a level; a disc by its upper vertebra, since the one below may be another (L6, S1)."""
    return VERTEBRA_NAMES.get(label - DISC_OFFSET if label > DISC_OFFSET else label)


def _title(label: int | None) -> str:
    if label is None:
        return "nothing"
    if label > DISC_OFFSET:
        return f"disc below {_title(label - DISC_OFFSET)}"
    unnamed = f"#{label - FIRST_UNNAMED_VERTEBRA + 1}"
    return VERTEBRA_NAMES.get(label, unnamed if label >= FIRST_UNNAMED_VERTEBRA else str(label))
