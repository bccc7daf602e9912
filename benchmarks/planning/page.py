"""What answers look like: a table, a picture, JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot

from planning.answer import Answer, Damage, Estimate, Slo
from planning.arrivals import Times
from planning.run import Run, Site

_BIN_S = 600.0
_HEADER = (
    "fleet",
    "replicas",
    "p95 at peak, s",
    "failed at peak",
    "busy",
    "replica-hours",
    "per 1000 studies",
    "SLO",
)
_LOSS_HEADER = ("lost at the peak", "failed", "late", "recovered after, s")


def table(answers: Sequence[Answer]) -> str:
    """Markdown, with 95 % confidence intervals; lost nodes in a table of their own."""
    rows = [_row(answer) for answer in answers]
    lost = [(answer.name, *_suffered(answer.damage)) for answer in answers if answer.damage is not None]
    return _markdown(_HEADER, rows) + ("\n" + _markdown(_LOSS_HEADER, lost) if lost else "")


def _suffered(damage: Damage) -> tuple[str, ...]:
    recovered = damage.recovered_s
    after = _text(recovered, 0) if math.isfinite(recovered.mean) else "not within the hour"
    return _text(damage.failed, 0), _text(damage.late, 0), after


def _row(answer: Answer) -> tuple[str, ...]:
    same = answer.least == answer.most
    return (
        answer.name,
        str(answer.most) if same else f"{answer.least}–{answer.most}",
        _text(answer.peak_p95_s, 2),
        f"{answer.peak_failed.mean:.2%}",
        f"{answer.busy.mean:.0%}",
        _text(answer.replica_hours, 0),
        "–" if answer.cost_per_1000 is None else _text(answer.cost_per_1000, 2),
        "met" if answer.meets else "missed",
    )


def _text(estimate: Estimate, digits: int) -> str:
    if not math.isfinite(estimate.mean):
        return "never"
    if not math.isfinite(estimate.half):
        return f"{estimate.mean:.{digits}f}"
    return f"{estimate.mean:.{digits}f} ± {estimate.half:.{digits}f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(path: Path, site: Site, slo: Slo, shown: Sequence[tuple[Answer, Run]]) -> None:
    """Arrivals, replicas and latency over the day, one run of each fleet."""
    figure, axes = pyplot.subplots(3, 1, figsize=(9, 9), sharex=True)
    hours = site.curve.edges_s / 3600.0
    rates = np.array(site.curve.weights) * site.studies / sum(site.curve.weights) / np.diff(hours)
    axes[0].stairs(rates, hours, fill=True, alpha=0.4)
    axes[0].set_ylabel("studies an hour")
    for answer, run in shown:
        moments, counts = zip(*run.serving, strict=True)
        axes[1].step(np.array(moments) / 3600.0, counts, where="post", label=answer.name)
        middles, values = _curve(run, site.curve.day_s)
        axes[2].plot(middles / 3600.0, values, label=answer.name)
    axes[1].set_ylabel("replicas that can answer")
    axes[2].axhline(slo.p95_s, color="grey", linestyle="--", label=f"SLO, {slo.p95_s:g} s")
    axes[2].set(ylabel="p95 of ten minutes, s", xlabel="hour of the day", yscale="log")
    for axis in axes[1:]:
        axis.legend(fontsize=8)
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _curve(run: Run, day_s: float) -> tuple[Times, Times]:
    """Middles of ten minutes in s, and the p95 of who came in them; NaN where there was nobody."""
    edges = np.arange(0.0, day_s + 1.0, _BIN_S)
    values = []
    for begin, end in pairwise(edges):
        among = run.answered & run.between(begin, end)
        values.append(float(np.percentile(run.latency_s[among], 95)) if among.any() else math.nan)
    return (edges[:-1] + edges[1:]) / 2, np.array(values)
