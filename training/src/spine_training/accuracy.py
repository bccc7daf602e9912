"""`make accuracy`: held-out phantoms through the running server, scored against their own truth.

    python -m spine_training.accuracy --url 127.0.0.1:8001 --count 20

Seeds from 900000 on were never trained on. Regions, T1- and T2-like contrasts, and isotropic and thick
sagittal (0.6 × 0.6 × 3.3–4.4 mm) grids take turns. Without ``--url`` a server is started and stopped. The
exit code is 1 if a figure misses its target. What the figures mean: `spine_training.scoring`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spine_training.scoring import (
    GROUPS,
    METHODS,
    QUANTITIES,
    CaseScore,
    NameScore,
    dice_of_groups,
    measurement_errors,
    score_names,
)
from spinecore.phantom import Phantom, PhantomConfig, make_phantom
from spinecore.phantom.config import Contrast, Region

if TYPE_CHECKING:
    from spine_client import SpineClient, SpineResult

FIRST_SEED = 900_000
REGIONS: tuple[Region, ...] = ("lumbar", "cervical", "thoracic")
CONTRASTS: tuple[Contrast, ...] = ("t2", "t1")
ISOTROPIC_MM = (0.9, 1.2)
THICK_MM = (3.3, 4.4)
IN_PLANE_MM = 0.6
TIMEOUT_S = 600.0

AT_LEAST: dict[str, float] = {
    "dice.body": 0.88,
    "dice.disc": 0.80,
    "dice.canal": 0.88,
    "names.precision": 0.98,
}
AT_MOST: dict[str, float] = {
    f"mse_mm2.{method}.{quantity}": 1.3 for method in METHODS for quantity in ("height_mean", "canal_ap")
}


def held_out_config(index: int) -> PhantomConfig:
    """Phantom `index` (0, 1, …) of the held-out set: its seed decides all that the turns do not."""
    rng = np.random.default_rng([FIRST_SEED, index])
    thick = index // len(REGIONS) % 2 == 1
    side = float(rng.uniform(*ISOTROPIC_MM))
    slices = round(float(rng.uniform(*THICK_MM)), 2)
    return PhantomConfig(
        seed=FIRST_SEED + index,
        region=REGIONS[index % len(REGIONS)],
        contrast=CONTRASTS[(index + index // 6) % len(CONTRASTS)],
        spacing_mm=(slices, IN_PLANE_MM, IN_PLANE_MM) if thick else (side, side, side),
        orientation="PIR" if thick else None,
    )


def score_case(phantom: Phantom, result: SpineResult, *, case: str) -> CaseScore:
    """All scores of one phantom and what the server made of it."""
    report = result.to_dict()
    named = [item["label"] for kind in ("vertebrae", "discs") for item in report[kind] if item["name"]]
    names, wrong = score_names(result.labels, named, phantom)
    errors, expected, matched = measurement_errors(result.labels, report["discs"], phantom)
    return CaseScore(
        case=case,
        dice=dice_of_groups(result.labels, phantom.labels),
        names=names,
        wrong_names=wrong,
        discs_expected=expected,
        discs_found=matched,
        errors_mm=errors,
        method=report["naming"]["method"],
        seconds=result.elapsed_s,
        details={"reason": report["naming"]["reason"], "warnings": [w["code"] for w in report["warnings"]]},
    )


def summarise(scores: Sequence[CaseScore]) -> dict[str, Any]:
    """Figures over all cases, nested as in the JSON; None where nothing could be counted."""
    names = sum((score.names for score in scores), NameScore())
    expected = sum(score.discs_expected for score in scores)
    return {
        "cases": len(scores),
        "dice": {group: _mean([s.dice[group] for s in scores]) for group in GROUPS},
        "names": {
            **asdict(names),
            "precision": names.right / names.named if names.named else None,
            "recall": names.recalled / names.expected if names.expected else None,
            "volumes_unnamed": sum(score.method == "none" for score in scores),
        },
        "discs": {"found": sum(score.discs_found for score in scores), "expected": expected},
        "mse_mm2": {m: {q: _moment(scores, m, q, 2) for q in QUANTITIES} for m in METHODS},
        "bias_mm": {m: {q: _moment(scores, m, q, 1) for q in QUANTITIES} for m in METHODS},
        "seconds": _mean([score.seconds for score in scores]),
    }


def misses(summary: dict[str, Any]) -> list[str]:
    """One sentence for each figure that misses its target or could not be counted."""
    found = []
    for key, target in AT_LEAST.items():
        value = _figure(summary, key)
        if value is None or value < target:
            found.append(f"{key} is {_shown(value)}, wanted at least {target}")
    for key, target in AT_MOST.items():
        value = _figure(summary, key)
        if value is None or value > target:
            found.append(f"{key} is {_shown(value)}, wanted at most {target}")
    return found


def table(summary: dict[str, Any]) -> str:
    """The figures as text."""
    names, discs = summary["names"], summary["discs"]
    lines = [
        f"{summary['cases']} volumes, {_shown(summary['seconds'])} s each",
        "Dice       " + "  ".join(f"{g} {_shown(v)}" for g, v in summary["dice"].items()),
        f"Levels     {names['right']} of {names['named']} names right ({_shown(names['precision'])}); "
        f"{names['recalled']} of {names['expected']} levels found by name where an anchor is in view "
        f"({_shown(names['recall'])}); {names['volumes_unnamed']} volumes left unnamed",
        f"Discs      {discs['found']} of {discs['expected']} found",
        f"{'MSE in mm²':<11}" + "".join(f"{q.replace('height_', ''):>11}" for q in QUANTITIES),
    ]
    for method in METHODS:
        values = summary["mse_mm2"][method].values()
        lines.append(f"  {method:<9}" + "".join(f"{_shown(value):>11}" for value in values))
    return "\n".join(lines)


def run(client: SpineClient, count: int) -> list[CaseScore]:
    """Score `count` held-out phantoms one by one, with a line on each."""
    scores = []
    for index in range(count):
        config = held_out_config(index)
        phantom = make_phantom(config)
        grid = "thick" if config.spacing_mm and max(config.spacing_mm) > 2 else "isotropic"
        case = f"{config.seed} {config.region} {config.contrast} {grid}"
        result = client.analyze((phantom.image, phantom.affine), timeout_s=TIMEOUT_S)
        score = score_case(phantom, result, case=case)
        scores.append(score)
        print(f"{case:<36}" + _case_line(score), flush=True)
    return scores


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if every target is met."""
    options = _parser().parse_args(arguments)
    with _client(options.url) as client:
        scores = run(client, options.count)
    summary = summarise(scores)
    missed = misses(summary)
    _write(options.out, scores, summary, missed)
    print("\n" + table(summary))
    for sentence in missed:
        print(f"MISSED: {sentence}")
    print("All targets met." if not missed else f"{len(missed)} targets missed.")
    return 1 if missed else 0


@contextlib.contextmanager
def _client(url: str | None) -> Iterator[SpineClient]:
    """A client of the server at `url`, or of one that is started for the purpose."""
    from spine_client import SpineClient

    if url is not None:
        with SpineClient(url) as client:
            yield client
        return
    from spine_server import EmbeddedTriton

    with EmbeddedTriton() as server, SpineClient(server.grpc_url) as client:
        yield client


def _write(folder: Path, scores: Sequence[CaseScore], summary: dict[str, Any], missed: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    groups = {
        name: summarise(part)
        for name in (*REGIONS, *CONTRASTS, "isotropic", "thick")
        if (part := [score for score in scores if name in score.case.split()])
    }
    content = {
        "summary": summary,
        "missed": missed,
        "targets": {"at_least": AT_LEAST, "at_most": AT_MOST},
        "by_group": groups,
        "cases": [asdict(score) for score in scores],
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    (folder / "accuracy.json").write_text(text + "\n", encoding="utf-8")


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def _moment(scores: Sequence[CaseScore], method: str, quantity: str, power: int) -> float | None:
    errors = [error for score in scores for error in score.errors_mm[method][quantity]]
    return float(np.mean(np.power(errors, power))) if errors else None


def _figure(summary: dict[str, Any], key: str) -> float | None:
    value: Any = summary
    for part in key.split("."):
        value = value[part]
    return None if value is None else float(value)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _case_line(score: CaseScore) -> str:
    names = score.names
    overlaps = "  ".join(f"{group} {_shown(value)}" for group, value in score.dice.items())
    wrong = f"  WRONG: {'; '.join(score.wrong_names)}" if score.wrong_names else ""
    return (
        f"{overlaps}  names {names.right}/{names.named} by {score.method}  "
        f"discs {score.discs_found}/{score.discs_expected}  {score.seconds:.1f} s{wrong}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m spine_training.accuracy", description=__doc__)
    parser.add_argument("--url", help="host:port of a running server; without it one is started")
    parser.add_argument("--count", type=int, default=20, help="volumes (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/accuracy"), help="folder for accuracy.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
