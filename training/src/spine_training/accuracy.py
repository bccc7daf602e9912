"""`make accuracy`: held-out phantoms through the running server, scored against their own truth.

    python -m spine_training.accuracy --url 127.0.0.1:8001 --count 60

Seeds from 900000 on were never trained on. Regions, T1- and T2-like contrasts, and isotropic, thick sagittal
(0.6 × 0.6 × 3.3–4.4 mm) and degenerated spines take turns; a fifth as many phantoms of fully random contrast
are scored as well and reported apart. Without ``--url`` a server is started and stopped. The exit code is 1
if a figure misses its target. What the figures mean: `spine_training.evaluation.scoring`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from spine_training.evaluation.cases import RANDOM_SHARE, held_out_phantoms
from spine_training.evaluation.command import write_pages
from spine_training.evaluation.run import as_json, connected, evaluate
from spine_training.evaluation.scoring import METHODS, CaseScore

ROBUSTNESS_SHARE = 20  # one of so many volumes is also made harder, twenty-one times
SHOWN = ("height_anterior", "height_middle", "height_posterior", "height_mean", "canal_ap")
AT_LEAST: dict[str, float] = {
    "dice.body": 0.94,
    "dice.disc": 0.90,
    "dice.canal": 0.93,
    "names.precision": 0.995,
    "names.recall": 0.97,
}
AT_MOST: dict[str, float] = {"mse_mm2.reported.height_mean": 0.4, "mse_mm2.reported.canal_ap": 0.5}


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
        f"{'MSE in mm²':<11}" + "".join(f"{q.replace('height_', ''):>11}" for q in SHOWN),
    ]
    for method in METHODS:
        values = [summary["mse_mm2"][method][quantity] for quantity in SHOWN]
        lines.append(f"  {method:<9}" + "".join(f"{_shown(value):>11}" for value in values))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if every target is met."""
    options = _parser().parse_args(arguments)
    source = held_out_phantoms(options.count, random=_random(options))
    with connected(options.url) as client:
        done = evaluate(
            client,
            source,
            robustness_cases=options.count // ROBUSTNESS_SHARE
            if options.robustness is None
            else options.robustness,
            tell=lambda score: print(_case_line(score), flush=True),
        )
    about = {"machine": options.machine, "date": date.today().isoformat()}
    content = as_json(done, source, about=about)
    missed = misses(content["summary"])
    targets = {"at_least": AT_LEAST, "at_most": AT_MOST}
    write_pages({"missed": missed, "targets": targets, **content}, options.out, "accuracy")
    print("\n" + table(content["summary"]))
    if content["apart"]:
        print("\nFully random contrasts, apart from the above\n" + table(content["apart"]))
    for name, reason in done.failures.items():
        print(f"FAILED: {name}: {reason}")
    for sentence in missed:
        print(f"MISSED: {sentence}")
    print("All targets met." if not missed else f"{len(missed)} targets missed.")
    return 1 if missed or done.failures else 0


def _random(options: argparse.Namespace) -> int:
    return int(options.count // RANDOM_SHARE if options.random is None else options.random)


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
    found = sum(disc.found for disc in score.discs)
    return (
        f"{score.case:<36}{overlaps}  names {names.right}/{names.named} by {score.method}  "
        f"discs {found}/{len(score.discs)}  {score.seconds:.1f} s{wrong}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m spine_training.accuracy", description=__doc__)
    parser.add_argument("--url", help="host:port of a running server; without it one is started")
    parser.add_argument("--count", type=int, default=60, help="volumes (default: %(default)s)")
    parser.add_argument("--random", type=int, help="volumes of fully random contrast (default: a fifth)")
    parser.add_argument("--robustness", type=int, help="volumes also made harder (default: one in twenty)")
    parser.add_argument("--machine", help="kind of machine, for the record")
    parser.add_argument("--out", type=Path, default=Path("out/accuracy"), help="folder for the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
