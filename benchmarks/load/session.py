"""One load test from its start to its results in a folder."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reliability.outcome_table import machine

from load import slo as objectives
from load.arrivals import phase_starts
from load.calibration import Capacity, measure
from load.generator import Generator
from load.knee import Point, curve, find_knee, points_as_json
from load.plots import plot_load, plot_timeline
from load.records import read_records
from load.server_side import Watch
from load.slo import Rule
from load.summary import Run
from load.target import Target
from load.task import Task
from load.text import summary_text
from load.volumes import Sample, samples_of
from load.workload import HOUR_S, Workload, WorkloadError, read_workload

PASSED, MISSED, WRONG_USE, FELL_BEHIND = 0, 1, 2, 3
"""Exit codes: objectives kept, missed; a file or option that cannot be used; the generator was too slow."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to run, against what, and where results go.

    Attributes
    ----------
    statistics_hosts, metrics_urls : of the replicas; what cannot be asked is left out of the results
    server_pid : of a server on this machine, for its CPU time
    capacity_per_s : what load 1 is; None measures it where the workload needs it
    """

    workload_path: Path
    target: Target
    results: Path
    cache: Path
    command: str
    compress: float | None = None
    rules: Sequence[Rule] | None = None
    slo_path: Path | None = None
    statistics_hosts: Sequence[str] = ()
    metrics_urls: Sequence[str] = ()
    server_pid: int | None = None
    capacity_per_s: float | None = None
    local_workers: int = 0
    remote_workers: int = 0
    master_host: str = "127.0.0.1"
    master_port: int = 5557
    versions: Mapping[str, str] = field(default_factory=dict)


def run(settings: Settings) -> dict[str, Any]:
    """Send the workload; the summary, which is also written to the results folder."""
    workload = read_workload(settings.workload_path, compress=settings.compress)
    rules = _rules(settings, workload)
    _empty(settings.results)
    settings.cache.mkdir(parents=True, exist_ok=True)
    samples = samples_of(workload.volumes, settings.cache)
    capacity = _capacity(settings, workload, samples)
    per_s = settings.capacity_per_s or (capacity.per_s if capacity else 1.0)
    watch, begins_at = _send(settings, per_s)
    outcome = Run(
        workload.scaled(per_s), read_records(settings.results / "records.csv"), watch.looks, begins_at
    )
    points = curve(outcome.workload.phases, phase_starts(outcome.workload.phases), outcome.records)
    summary = {
        **_about(settings, workload, capacity),
        **outcome.summary(),
        "curve": points_as_json(points),
        "knee": find_knee(points),
        "notes": [f"{count} looks at the server failed: {what}" for what, count in watch.missed.items()],
    }
    summary["slo"] = objectives.judge(rules, summary)
    _keep(settings.results, summary)
    _draw(settings.results, outcome, points, summary["knee"])
    return summary


def exit_code(summary: Mapping[str, Any]) -> int:
    """By what the summary says."""
    if summary["generator"]["fell_behind"]:
        return FELL_BEHIND
    return PASSED if all(each["held"] for each in summary["slo"]) else MISSED


def _rules(settings: Settings, workload: Workload) -> Sequence[Rule]:
    if settings.slo_path is None:
        return objectives.DEFAULT
    return objectives.read_slo(settings.slo_path, [phase.name for phase in workload.phases])


def _empty(folder: Path) -> None:
    """Results of an earlier run must not be taken for this one's."""
    if (folder / "records.csv").exists() or (folder / "task.json").exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise WorkloadError("the folder for results holds something else; name an empty or a new one")


def _capacity(settings: Settings, workload: Workload, samples: Sequence[Sample]) -> Capacity | None:
    if not workload.needs_capacity or settings.capacity_per_s is not None:
        return None
    print("measuring what the server can do …", flush=True)
    found = measure(settings.target, workload, samples)
    print(f"load 1 is {found.per_s * HOUR_S:.0f} volumes per hour", flush=True)
    return found


def _send(settings: Settings, per_s: float) -> tuple[Watch, float]:
    """Start Locust, look at the server meanwhile; when it began by the wall clock."""
    task = Task(
        workload_path=settings.workload_path,
        target=settings.target,
        cache=settings.cache,
        results=settings.results,
        compress=settings.compress,
        capacity_per_s=per_s,
    )
    generator = Generator(
        task, settings.local_workers, settings.remote_workers, settings.master_host, settings.master_port
    )
    print(f"sending for {task.workload().seconds:.0f} s …", flush=True)
    try:
        generator.start()
        processes = {"generator": [process.pid for process in generator.processes]}
        if settings.server_pid is not None:
            processes["server"] = [settings.server_pid]
        with Watch(settings.target, settings.statistics_hosts, settings.metrics_urls, processes) as watch:
            generator.wait()
    finally:
        generator.stop()
    begun = json.loads((settings.results / "begun.json").read_text("utf-8"))
    return watch, float(begun["begins_at"])


def _about(settings: Settings, workload: Workload, capacity: Capacity | None) -> dict[str, Any]:
    """What was run, where and when. Neither addresses nor folders: results get passed around."""
    found = None
    if capacity is not None:
        found = {
            "unloaded_s": capacity.unloaded_s,
            "per_hour": capacity.per_s * HOUR_S,
            "callers": workload.calibrating_callers,
        }
    return {
        "schema": 1,
        "workload": {"name": workload.name, "about": workload.about, "open_loop": workload.is_open},
        "command": settings.command,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "replicas": len(settings.target.hosts),
        "capacity": found,
    }


def _draw(folder: Path, outcome: Run, points: Sequence[Point], knee: Mapping[str, Any] | None) -> None:
    plot_timeline(outcome, folder / "timeline.png")
    if len(points) > 1 and outcome.workload.is_open:
        plot_load(points, knee, folder / "load.png")


def _keep(folder: Path, summary: Mapping[str, Any]) -> None:
    (folder / "summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / "summary.md").write_text(summary_text(summary), "utf-8")
