"""What changed from one run to another, and whether it is more than noise.

Latencies of neighbouring volumes depend on each other (they stand in the same queue), so tests that take
them for independent see differences everywhere. Mean and percentiles are compared by a moving-block
bootstrap over time (Künsch 1989): stretches of a run are drawn again and again, and the difference is
beyond noise where its 95 % interval, widened for the number of comparisons (Bonferroni), holds no zero.
Beside it stands scipy's Mann-Whitney U test of the latencies, which knows nothing of queues: it is a hint,
not the verdict. Error rates are compared by Fisher's exact test. None of them knows how much two runs of
the same server differ: run each twice before believing a small change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact, mannwhitneyu

from load.records import Record, read_records
from load.workload import HOUR_S, WorkloadError

_DRAWS, _SEED = 4000, 3
_LEVEL = 0.05
_BLOCKS = 10
"""A phase is cut into about so many stretches; fewer volumes than twice that are not compared."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kept:
    """A run as its folder keeps it."""

    summary: dict[str, Any]
    records: list[Record]


@dataclass(frozen=True)
class Difference:
    """One figure of one phase, in both runs.

    `interval`: of the relative change. `beyond_noise`: None where it was not tested.
    """

    phase: str
    figure: str
    before: float | None
    after: float | None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    beyond_noise: bool | None = None

    @property
    def change(self) -> float | None:
        """Relative change."""
        return None if not self.before or self.after is None else self.after / self.before - 1.0


def read_run(folder: Path) -> Kept:
    """A results folder. Raises `WorkloadError` where it is none."""
    try:
        summary = json.loads((folder / "summary.json").read_text("utf-8"))
        return Kept(summary, read_records(folder / "records.csv"))
    except (OSError, ValueError, KeyError):
        raise WorkloadError(f"{folder.name} is not a folder with the results of a run") from None


def compare(before: Kept, after: Kept) -> list[Difference]:
    """All figures of the phases that both runs have, by name."""
    names = [phase["name"] for phase in before.summary["phases"] if not phase["warm_up"]]
    shared = [name for name in names if any(name == each["name"] for each in after.summary["phases"])]
    if not shared:
        raise WorkloadError("the two runs have no phase in common")
    found, level = [], _LEVEL / ((len(_FIGURES) + 1) * len(shared))
    for name in shared:
        found += _latencies(name, before, after, level=level)
        found += _counts(name, before, after, level=level)
        found += _server(name, before, after)
    return found


_FIGURES: Mapping[str, Callable[[Floats], Floats]] = {
    "mean s": lambda values: np.mean(values, axis=-1),
    "p50 s": lambda values: np.percentile(values, 50, axis=-1),
    "p95 s": lambda values: np.percentile(values, 95, axis=-1),
}


def _latencies(name: str, before: Kept, after: Kept, *, level: float) -> list[Difference]:
    pairs = [_good(name, run) for run in (before, after)]
    rng, found = np.random.default_rng(_SEED), []
    enough = min(map(len, pairs)) >= 2 * _BLOCKS
    p_value = float(mannwhitneyu(*pairs).pvalue) if enough else None
    draws = [_resampled(values, rng) for values in pairs] if enough else []
    for figure, of in _FIGURES.items():
        was, now = (float(of(each)) if len(each) else None for each in pairs)
        shown = p_value if figure == "mean s" else None
        if not enough:
            found.append(Difference(name, figure, was, now))
            continue
        low, high = _interval(draws, of, level)
        found.append(Difference(name, figure, was, now, (low, high), shown, not low <= 0.0 <= high))
    return found


def _counts(name: str, before: Kept, after: Kept, *, level: float) -> list[Difference]:
    """Errors, by Fisher's exact test; answers per hour, which depend on what was offered: not tested."""
    was, now = (_phase(run, name) for run in (before, after))
    table = [[each["sent"] - each["ok"], each["ok"]] for each in (was, now)]
    p_value = float(fisher_exact(table).pvalue) if min(map(sum, table)) else None
    beyond = None if p_value is None else p_value < level
    return [
        Difference(name, "volumes_per_hour", was["volumes_per_hour"], now["volumes_per_hour"]),
        Difference(name, "error_rate", was["error_rate"], now["error_rate"], None, p_value, beyond),
    ]


def _good(name: str, run: Kept) -> Floats:
    """Latencies of a phase in the order in which the volumes were due."""
    number = next(n for n, each in enumerate(run.summary["phases"]) if each["name"] == name)
    good = sorted((r for r in run.records if r.phase == number and r.ok), key=lambda r: r.due_s)
    return np.array([record.latency_s for record in good])


def _resampled(values: Floats, rng: np.random.Generator) -> Floats:
    """(draws, n): runs put together from stretches of `values`, drawn with replacement."""
    count = len(values)
    length = max(2, count // _BLOCKS)
    starts = rng.integers(0, count - length + 1, size=(_DRAWS, -(-count // length)))
    places = (starts[..., None] + np.arange(length)).reshape(_DRAWS, -1)[:, :count]
    drawn: Floats = values[places]
    return drawn


def _interval(draws: Sequence[Floats], of: Callable[[Floats], Floats], level: float) -> tuple[float, float]:
    """Of the relative change, holding all but `level` of the draws."""
    before, after = (of(each) for each in draws)
    change = after / before - 1.0
    low, high = np.percentile(change, [100 * level / 2, 100 * (1 - level / 2)])
    return float(low), float(high)


def _phase(run: Kept, name: str) -> dict[str, Any]:
    return dict(next(each for each in run.summary["phases"] if each["name"] == name))


def _server(name: str, before: Kept, after: Kept) -> list[Difference]:
    """Means per request; there is no way to tell how much of their change is noise."""
    runs = [_phase(run, name) for run in (before, after)]
    found = []
    for stage in runs[0]["stages_s"]:
        found.append(Difference(name, f"{stage}, mean s", *(run["stages_s"].get(stage) for run in runs)))
    for model in runs[0]["server"]["models"]:
        queues = [run["server"]["models"].get(model, {}).get("queue_ms") for run in runs]
        if any(queue is not None and queue >= 1.0 for queue in queues):
            found.append(Difference(name, f"queue of {model}, ms", *queues))
    return found


def rows(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """For a table."""
    return [
        {
            "phase": each.phase,
            "figure": each.figure,
            "A": _figure(each.before),
            "B": _figure(each.after),
            "change": _percent(each.change),
            "interval": None if each.interval is None else " … ".join(map(_percent, each.interval)),
            "p (Mann-Whitney, Fisher)": None if each.p_value is None else f"{each.p_value:.2g}",
            "beyond noise": {None: "not tested", True: "YES", False: "no"}[each.beyond_noise],
        }
        for each in differences
    ]


def conclusion(differences: Sequence[Difference]) -> str:
    """One sentence."""
    real = [each for each in differences if each.beyond_noise]
    tested = sum(each.beyond_noise is not None for each in differences)
    if not tested:
        return "Too few volumes in every phase to tell a change from noise."
    if not real:
        return f"Nothing is beyond noise, of {tested} figures that were tested."
    named = "; ".join(f"{each.phase}, {each.figure}: {_percent(each.change)}" for each in real)
    return f"Beyond noise, of {tested} figures that were tested: {named}."


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.0%}"


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}" if abs(value) < HOUR_S else f"{value:.0f}"
