"""Scores of one served analysis against a phantom's truth: overlap, level names, millimetres.

Definitions
-----------
Dice
    Per group of labels over the whole volume: bodies (C3…L6, named or not), C2, discs, canal, sacrum. None
    where the truth shows fewer than `MIN_VOXELS` voxels of the group (an edge of it in the field of view).
Right name
    A named vertebra or disc is right if its label's voxels lie mostly in the true structure of that name.
Recall
    Of the true levels that lie wholly in the field of view of a volume with an anchor (C2 or sacrum) in it:
    the share that is found under its own name.
Measurement errors
    Ours minus the truth in mm, over true discs wholly in view whose own voxels are mostly one found disc.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinecore.labels import C2, CANAL, DISC_OFFSET, SACRUM, VERTEBRA_NAMES
from spinecore.phantom import Phantom

LabelMap = NDArray[np.uint8]

MIN_VOXELS = 200
MIN_SHARE = 0.5
GROUPS: dict[str, frozenset[int]] = {
    "body": frozenset(range(3, 26)) | {28} | frozenset(range(71, 100)),
    "disc": frozenset(range(101, 130)) | frozenset(range(171, 200)),
    "canal": frozenset({CANAL}),
    "sacrum": frozenset({SACRUM}),
    "c2": frozenset({C2}),
}
PLACES = ("anterior", "middle", "posterior", "mean")
QUANTITIES = (*(f"height_{place}" for place in PLACES), "canal_ap")
METHODS = ("geometric", "cnn")


@dataclass(frozen=True)
class NameScore:
    """Counts of levels: named by us, of these right, true and to be found, of these found and named right."""

    named: int = 0
    right: int = 0
    expected: int = 0
    recalled: int = 0

    def __add__(self, other: NameScore) -> NameScore:
        return NameScore(
            self.named + other.named,
            self.right + other.right,
            self.expected + other.expected,
            self.recalled + other.recalled,
        )


@dataclass
class CaseScore:
    """Scores of one volume. errors_mm: method -> quantity -> one error per disc."""

    case: str
    dice: dict[str, float | None]
    names: NameScore
    wrong_names: list[str]
    discs_expected: int
    discs_found: int
    errors_mm: dict[str, dict[str, list[float]]]
    method: str
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)


def dice_of_groups(found: LabelMap, true: LabelMap) -> dict[str, float | None]:
    """Dice per group of `GROUPS`; None where the truth hardly shows the group."""
    scores: dict[str, float | None] = {}
    for group, labels in GROUPS.items():
        table = np.isin(np.arange(256), list(labels))
        ours, theirs = table[found], table[true]
        both = int(ours.sum()) + int(theirs.sum())
        enough = int(theirs.sum()) >= MIN_VOXELS
        scores[group] = 2.0 * int((ours & theirs).sum()) / both if enough else None
    return scores


def main_overlap(mask: NDArray[np.bool_], labels: LabelMap, allowed: Iterable[int]) -> int | None:
    """The label among `allowed` that fills most of `mask`; None if it fills less than `MIN_SHARE` of it."""
    counts = np.bincount(labels[mask], minlength=256)
    best = max(allowed, key=lambda label: counts[label], default=None)
    return best if best is not None and counts[best] >= MIN_SHARE * max(int(mask.sum()), 1) else None


def score_names(found: LabelMap, named: Sequence[int], phantom: Phantom) -> tuple[NameScore, list[str]]:
    """Names of one volume against the truth, and the wrong ones as ``"L4 is L5"``.

    named: labels of the vertebrae and discs that carry a name in the report.
    """
    true = phantom.labels
    kinds = np.flatnonzero(np.bincount(true.ravel(), minlength=256))
    levels = [int(label) for label in kinds if label not in (0, CANAL)]
    wrong = []
    right = set()
    for label in named:
        really = main_overlap(found == label, true, levels)
        if really == label:
            right.add(label)
        else:
            wrong.append(f"{_name(label)} is {_name(really)}")
    expected = _expected_levels(phantom)
    recalled = sum(label in right for label in expected)
    return NameScore(len(named), len(right), len(expected), recalled), wrong


def _expected_levels(phantom: Phantom) -> list[int]:
    """Labels of the levels wholly in view, if an anchor is."""
    vertebrae, discs = phantom.truth.vertebrae, phantom.truth.discs
    counts = np.bincount(phantom.labels.ravel(), minlength=256)
    if counts[SACRUM] < MIN_VOXELS and counts[C2] < MIN_VOXELS:
        return []
    return [v.label for v in vertebrae if v.complete] + [d.label for d in discs if d.complete]


def _name(label: int | None) -> str:
    if label is None:
        return "nothing"
    if label > DISC_OFFSET:
        return f"disc below {_name(label - DISC_OFFSET)}"
    return VERTEBRA_NAMES.get(label, str(label))


def measurement_errors(
    found: LabelMap, discs: Sequence[dict[str, Any]], phantom: Phantom
) -> tuple[dict[str, dict[str, list[float]]], int, int]:
    """Errors in mm per method and quantity, and how many discs were to be found and were.

    discs: those of the report, as JSON.
    """
    errors: dict[str, dict[str, list[float]]] = {m: {q: [] for q in QUANTITIES} for m in METHODS}
    by_label = {disc["label"]: disc for disc in discs}
    expected = [truth for truth in phantom.truth.discs if truth.complete]
    matched = 0
    for truth in expected:
        label = main_overlap(phantom.labels == truth.label, found, by_label)
        if label is None:
            continue
        matched += 1
        for method in METHODS:
            for quantity, value in _values(by_label[label], method).items():
                if value is not None:
                    errors[method][quantity].append(value - _true_value(truth, quantity))
    return errors, len(expected), matched


def _values(disc: dict[str, Any], method: str) -> dict[str, float | None]:
    heights = disc["height_mm"][method] or {}
    values: dict[str, float | None] = {f"height_{place}": heights.get(place) for place in PLACES}
    values["canal_ap"] = disc["canal_ap_mm"][method]
    return values


def _true_value(truth: Any, quantity: str) -> float:
    return float(getattr(truth, "canal_ap_mm" if quantity == "canal_ap" else f"{quantity[7:]}_mm"))
