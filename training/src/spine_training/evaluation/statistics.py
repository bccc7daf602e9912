"""From scores of single cases to figures: means, errors with limits of agreement, the paper's tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from spine_training.evaluation import paper
from spine_training.evaluation.reference import CANAL_AP, HEIGHTS, QUANTITIES, Values
from spine_training.evaluation.scoring import (
    GROUPS,
    METHODS,
    CaseScore,
    LevelScore,
    NameScore,
    region_of,
)

NORMAL_95 = 1.96
CANAL_TOLERANCE_MM = 2.0
Figures = dict[str, Any]


def summarise(scores: Sequence[CaseScore]) -> Figures:
    """Figures over all cases, nested as in the JSON; None where nothing could be counted."""
    names = sum((score.names for score in scores), NameScore())
    discs = [disc for score in scores for disc in score.discs]
    found = sum(score.found for score in scores)
    unnamed = sum(score.unnamed for score in scores)
    anchored = [score for score in scores if score.anchor]
    return {
        "cases": len(scores),
        "dice": {group: mean([s.dice[group] for s in scores]) for group in GROUPS},
        "names": {
            **asdict(names),
            "precision": ratio(names.right, names.named),
            "recall": ratio(names.recalled, names.expected),
            "volumes_unnamed": sum(score.method == "none" for score in scores),
            "levels_found": found,
            "levels_unnamed": unnamed,
            "unnamed_share": ratio(unnamed, found),
            "unnamed_share_with_anchor": ratio(
                sum(s.unnamed for s in anchored), sum(s.found for s in anchored)
            ),
        },
        "discs": {"found": sum(disc.found for disc in discs), "expected": len(discs)},
        "mse_mm2": {m: {q: _figure(scores, m, q)["mse_mm2"] for q in QUANTITIES} for m in METHODS},
        "errors_mm": {m: {q: _figure(scores, m, q) for q in QUANTITIES} for m in METHODS},
        "seconds": mean([score.seconds for score in scores]),
    }


def _figure(scores: Sequence[CaseScore], method: str, quantity: str) -> Figures:
    return error_figures([e for score in scores for e in score.errors_mm(method, quantity)])


def error_figures(errors_mm: Sequence[float]) -> Figures:
    """n, MSE in mm², mean error, its 95 % limits of agreement (mean ± 1.96 standard deviations), in mm."""
    errors = np.asarray(errors_mm, dtype=np.float64)
    if not len(errors):
        return {"n": 0, "mse_mm2": None, "mean_mm": None, "low_mm": None, "high_mm": None}
    middle = float(errors.mean())
    reach = NORMAL_95 * float(errors.std(ddof=1)) if len(errors) > 1 else None
    return {
        "n": len(errors),
        "mse_mm2": float((errors**2).mean()),
        "mean_mm": middle,
        "low_mm": None if reach is None else middle - reach,
        "high_mm": None if reach is None else middle + reach,
    }


def tables(scores: Sequence[CaseScore]) -> Figures:
    """The paper's three tables with ours beside them."""
    return {"dice": dice_table(scores), "errors": error_table(scores), "naming": naming_table(scores)}


def dice_table(scores: Sequence[CaseScore]) -> list[Figures]:
    """Table 4: Dice by vertebra, then bodies and discs by region, and the canal."""
    structures = [s for score in scores for s in score.structures]
    rows = []
    for region, levels in paper.REGIONS.items():
        for level in levels:
            values = [s.dice for s in structures if s.level == level and s.kind in ("body", "c2")]
            rows.append(_dice_row(region, level, paper.DICE.get(level), values))
        kinds = (("bodies", ("body", "c2"), paper.DICE_OF_REGION.get(region)), ("discs", ("disc",), None))
        for name, kind, theirs in kinds:
            values = [s.dice for s in structures if s.kind in kind and region_of(s.level) == region]
            rows.append(_dice_row(region, f"{name} {levels[0]}–{levels[-1]}", theirs, values))
    for name, group, theirs in (
        ("all bodies", "body", None),
        ("all discs", "disc", None),
        ("sacrum", "sacrum", None),
    ):
        rows.append(_dice_row("all", name, theirs, [s.dice for s in structures if s.kind == group]))
    for region in (*paper.REGIONS, "all"):
        chosen = [s for s in scores if region == "all" or region in s.groups]
        values = [d for s in chosen if (d := s.dice["canal"]) is not None]
        rows.append(_dice_row(region, "canal", paper.DICE_CANAL if region == "all" else None, values))
    return rows


def _dice_row(region: str, name: str, theirs: float | None, values: Sequence[float]) -> Figures:
    return {
        "region": region,
        "structure": name,
        "paper": theirs,
        "n": len(values),
        "dice": mean(values),
        "lowest": min(values, default=None),
    }


def error_table(scores: Sequence[CaseScore]) -> list[Figures]:
    """Table 5: disc height by level and canal AP by region, by every method."""
    discs = [disc for score in scores for disc in score.discs]
    rows = []
    for region, levels in paper.REGIONS.items():
        if region == "cervical":
            rows.append(_error_row(region, "C1 (no disc)", paper.HEIGHT_MSE_MM2["C1"], [], "height_mean"))
        for level in levels:
            of_level = [disc for disc in discs if disc.level == level]
            theirs = paper.HEIGHT_MSE_MM2.get(level)
            rows.append(_error_row(region, paper.disc_name(level), theirs, of_level, "height_mean"))
        of_region = [disc for disc in discs if region_of(disc.level) == region]
        rows.append(_error_row(region, "all heights", None, of_region, "height_mean"))
        theirs = paper.CANAL_MSE_MM2.get(region)
        rows.append(_error_row(region, "canal AP", theirs, of_region, CANAL_AP))
    rows += [_error_row("all", quantity, None, discs, quantity) for quantity in (*HEIGHTS, CANAL_AP)]
    return rows


def _error_row(
    region: str, name: str, theirs: float | None, levels: Sequence[LevelScore], quantity: str
) -> Figures:
    by_method = {method: error_figures(_errors(levels, method, quantity)) for method in METHODS}
    return {"region": region, "level": name, "quantity": quantity, "paper_mse_mm2": theirs, **by_method}


def _errors(levels: Iterable[LevelScore], method: str, quantity: str) -> list[float]:
    pairs = [(x.found_mm.get(method, {}).get(quantity), x.true_mm.get(quantity)) for x in levels]
    return [found - true for found, true in pairs if found is not None and true is not None]


def naming_table(scores: Sequence[CaseScore]) -> list[Figures]:
    """Table 6: finding and naming each disc level, and the canal's diameter, in percent.

    precision: of the discs we gave this name, those that are it. recall: of the true ones wholly in view of
    volumes with an anchor, those we found under this name. detected: of all true ones, those found at all.
    """
    rows = [
        {
            "region": "cervical",
            "level": "C1/C2 (no disc)",
            "paper": paper.PRECISION_RECALL["C1"],
            **_no_counts(),
        }
    ]
    for region, levels in paper.REGIONS.items():
        for level in levels:
            named = {
                "region": region,
                "level": paper.disc_name(level),
                "paper": paper.PRECISION_RECALL.get(level),
            }
            rows.append({**named, **_naming_counts(scores, {level})})
        rows.append(
            {"region": region, "level": "all discs", "paper": None, **_naming_counts(scores, set(levels))}
        )
    rows.append(
        {"region": "all", "level": "canal AP", "paper": paper.PRECISION_RECALL_CANAL, **_canal_counts(scores)}
    )
    return rows


def _no_counts() -> Figures:
    return dict.fromkeys(("claimed", "right", "expected", "recalled", "true", "found"), 0) | dict.fromkeys(
        ("precision", "recall", "detected")
    )


def _naming_counts(scores: Sequence[CaseScore], levels: set[str]) -> Figures:
    claims = [claim for score in scores for claim in score.claims if claim[0] in levels]
    right = sum(ours == really for ours, really in claims)
    true = [(disc, score.anchor) for score in scores for disc in score.discs if disc.level in levels]
    expected = [disc for disc, anchor in true if anchor]
    recalled = sum((disc.named or "").partition("/")[0] == disc.level for disc in expected)
    found = sum(disc.found for disc, _ in true)
    counts = {"claimed": len(claims), "right": right, "expected": len(expected), "recalled": recalled}
    return {
        **counts,
        "true": len(true),
        "found": found,
        "precision": percent(right, len(claims)),
        "recall": percent(recalled, len(expected)),
        "detected": percent(found, len(true)),
    }


def _canal_counts(scores: Sequence[CaseScore]) -> Figures:
    """The canal's AP diameter: right if within `CANAL_TOLERANCE_MM` of the reference."""
    discs = [d for score in scores for d in score.discs if d.true_mm.get(CANAL_AP) is not None]
    errors = _errors(discs, METHODS[0], CANAL_AP)
    right = sum(abs(error) <= CANAL_TOLERANCE_MM for error in errors)
    counts = {"claimed": len(errors), "right": right, "expected": len(discs), "recalled": right}
    return {
        **counts,
        "true": len(discs),
        "found": len(errors),
        "precision": percent(right, len(errors)),
        "recall": percent(right, len(discs)),
        "detected": percent(len(errors), len(discs)),
    }


def calibration(scores: Sequence[CaseScore]) -> list[Figures]:
    """How honest the stated standard errors are, by quantity and method; nothing where none are stated.

    Good ones hold 68 % of the errors within one of them and 95 % within 1.96, and have a ratio (root mean
    square of error over standard error) of 1.
    """
    levels = [level for score in scores for level in score.levels]
    rows = []
    for quantity in QUANTITIES:
        for method in METHODS:
            ratios, stated = _ratios(levels, method, quantity)
            if len(ratios):
                rows.append(
                    {
                        "quantity": quantity,
                        "method": method,
                        "n": len(ratios),
                        "within_1": float((np.abs(ratios) <= 1).mean()),
                        "within_1_96": float((np.abs(ratios) <= NORMAL_95).mean()),
                        "ratio": float(np.sqrt((ratios**2).mean())),
                        "stated_mm": float(stated.mean()),
                    }
                )
    return rows


def _ratios(levels: Iterable[LevelScore], method: str, quantity: str) -> tuple[Any, Any]:
    none: Values = {}
    rows = [
        (
            x.found_mm.get(method, none).get(quantity),
            x.true_mm.get(quantity),
            x.error_mm.get(method, none).get(quantity),
        )
        for x in levels
    ]
    full = np.array([row for row in rows if None not in row], dtype=np.float64).reshape(-1, 3)
    return (full[:, 0] - full[:, 1]) / full[:, 2], full[:, 2]


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is there, None if nothing is."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def ratio(part: int, whole: int) -> float | None:
    """Share, None of nothing."""
    return part / whole if whole else None


def percent(part: int, whole: int) -> float | None:
    """Share in percent, None of nothing."""
    return 100.0 * part / whole if whole else None
