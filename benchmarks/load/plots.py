"""Two pictures of a run: latency against offered load with the knee, and the run over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot

from load.arrivals import phase_starts
from load.knee import FACTOR, Point
from load.records import Record
from load.server_side import Look
from load.summary import Run

_FAILED = "tab:red"
_OVERLAP_S = 0.1


def plot_load(points: Sequence[Point], knee: Mapping[str, Any] | None, path: Path) -> None:
    """p50 and p95 against what was offered, above; what was answered, below."""
    figure, (latency, rate) = pyplot.subplots(2, 1, figsize=(8, 8), sharex=True)
    offered = [point.offered for point in points]
    latency.plot(offered, [point.p95_s for point in points], "o-", label="p95")
    latency.plot(offered, [point.p50_s for point in points], "o-", label="p50")
    latency.set_ylabel("latency from the due moment, s")
    rate.plot(offered, [point.answered for point in points], "o-", color="tab:green", label="answered")
    rate.plot([0, max(offered)], [0, max(offered)], ":", color="grey", label="all answered in time")
    rate.set_xlabel("offered, volumes per hour")
    rate.set_ylabel("answered, volumes per hour")
    if knee:
        latency.axhline(FACTOR * knee["ground_s"], ls=":", color="grey", label=f"{FACTOR:g} × lowest median")
    if knee and knee["offered_per_hour"] is not None:
        label = "knee" if knee["reached"] else "no knee yet"
        for axis in (latency, rate):
            axis.axvline(knee["offered_per_hour"], color=_FAILED, ls="--", label=label)
    _finish(figure, (latency, rate), path)


def plot_timeline(run: Run, path: Path) -> None:
    """Latency of every volume, what was due and answered, who waited, what was busy: over seconds."""
    figure, axes = pyplot.subplots(4, 1, figsize=(11, 11), sharex=True)
    _latencies(axes[0], run.records)
    _rates(axes[1], run)
    _waiting(axes[2], run)
    _use(axes[3], run.looks, run.begins_at)
    for axis in axes:
        for phase, start in zip(run.workload.phases, phase_starts(run.workload.phases), strict=True):
            axis.axvline(start, color="lightgrey", lw=0.8, zorder=0)
            if axis is axes[0]:
                axis.annotate(phase.name, (start, 1.01), xycoords=("data", "axes fraction"), fontsize=7)
    ends = [run.workload.seconds, *(record.done_s for record in run.records)]
    axes[-1].set_xlim(0.0, 1.02 * max(ends))
    axes[-1].set_xlabel("seconds after the start")
    _finish(figure, axes, path)


def _latencies(axis: Any, records: Sequence[Record]) -> None:
    for kind in dict.fromkeys(record.kind for record in records):
        mine = [record for record in records if record.kind == kind and record.ok]
        axis.plot([r.due_s for r in mine], [r.latency_s for r in mine], ".", markersize=5, label=kind)
    bad = [record for record in records if not record.ok]
    if bad:
        axis.plot([r.due_s for r in bad], [r.latency_s for r in bad], "x", color=_FAILED, label="failed")
    axis.set_ylabel("latency, s\n(by due moment)")


def _rates(axis: Any, run: Run) -> None:
    width_s = max(2.0, run.workload.seconds / 40)
    end_s = max([run.workload.seconds, *(record.done_s for record in run.records)])
    edges = np.arange(0.0, end_s + 2 * width_s, width_s)
    for label, moments in (
        ("due", [record.due_s for record in run.records]),
        ("answered", [record.done_s for record in run.records if record.ok]),
    ):
        counts, _ = np.histogram(moments, edges)
        axis.stairs(counts * 3600 / width_s, edges, label=label)
    axis.set_ylabel("volumes per hour")


def _waiting(axis: Any, run: Run) -> None:
    """Requests without an answer yet, as the client knows, and those in Triton's queues."""
    changes = sorted([(r.sent_s, 1) for r in run.records] + [(r.done_s, -1) for r in run.records])
    if changes:
        moments, steps = zip(*changes, strict=True)
        axis.step(moments, np.cumsum(steps), where="post", label="sent, not answered")
    for model in sorted({model for look in run.looks for model in look.pending}):
        values = [
            (look.at - run.begins_at, look.pending.get(model, 0.0)) for look in run.looks if look.pending
        ]
        if any(value for _, value in values):
            axis.plot(*zip(*values, strict=True), lw=0.9, label=f"queue of {model}")
    axis.set_ylabel("requests")


def _use(axis: Any, looks: Sequence[Look], begins_at: float) -> None:
    for name in ("cpu", "gpu"):
        values = [(look.at - begins_at, look.gauges[name]) for look in looks if name in look.gauges]
        if values:
            axis.plot(*zip(*values, strict=True), label=f"{name.upper()} of the server's machine, share")
    for group in sorted({name for look in looks for name in look.cpu_s}):
        pairs = list(pairwise(looks))
        moments = [later.at - begins_at for _, later in pairs]
        cores = [
            (later.cpu_s[group] - earlier.cpu_s[group]) / max(later.at - earlier.at, _OVERLAP_S)
            for earlier, later in pairs
        ]
        axis.plot(moments, cores, lw=0.9, label=f"cores, {group}")
    axis.set_ylabel("busy")


def _finish(figure: Any, axes: Sequence[Any], path: Path) -> None:
    for axis in axes:
        axis.set_ylim(bottom=0)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
