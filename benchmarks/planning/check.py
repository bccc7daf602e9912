"""Predictions against what one and two embedded servers really do, on the same schedules."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from load.volumes import Sample
from reliability.processes import tree
from reliability.replica import Replica

from planning.answer import Estimate
from planning.arrivals import DayCurve
from planning.embedded import address, embedded, on_cores, usage
from planning.measure import measure
from planning.openloop import Outcome, Schedule, play
from planning.run import Site, simulate
from planning.service import ServiceTimes, VolumeTimes, mean_alone_s
from planning.topology import Topology, read_topology
from spine_client import RetryPolicy, SpineClient

CORES = ([0], [1])
LOAD = 0.7
"""Of what one server does one study after the other; what it does with several in flight is more."""
SEEDS = range(20)
WITHIN = 0.15
BURST = 48
LOUD_CORES = 0.1
"""More work of others than this, and the run says so."""
_TIMEOUT_S = 100.0
FIGURES = ("p95_s", "mean_s", "per_hour", "answered")


@dataclass(frozen=True)
class Case:
    """A real run: of how many servers, by which schedule; `judged`: the figures that must agree."""

    name: str
    servers: int
    schedule: Schedule
    judged: tuple[str, ...] = ("p95_s", "per_hour")


@dataclass(frozen=True)
class Servers:
    """Running servers and clients of the first, the second, and both."""

    replicas: list[Replica]
    alone: list[SpineClient]
    both: SpineClient


@dataclass(frozen=True)
class Moment:
    """Studies of both servers while the other was idle, and of the first while the second was busy."""

    quiet: list[tuple[VolumeTimes, ...]]
    beside: tuple[VolumeTimes, ...]

    @property
    def work_s(self) -> float:
        """Core-seconds of a study alone."""
        return _mean_work_s(_joined(self.quiet))


@dataclass(frozen=True)
class Played:
    """A case as it went; `work_s`: core-seconds of the servers for each study answered, `others` as cores."""

    case: Case
    outcome: Outcome
    work_s: float
    others: float


def check(samples: Sequence[Sample], out: Path, *, machine: str, seconds: float, rounds: int) -> int:
    """Measure, run, simulate, compare. Returns 1 where a judged figure is more than 15 % off, else 0.

    Service times are measured before, between and after the runs: a shared machine is not equally fast at
    all times, and what is predicted is what a run takes at the speed that it had.
    """
    topology = read_topology()
    with tempfile.TemporaryDirectory() as folder, embedded(CORES, Path(folder)) as (replicas, took_s):
        alone = [SpineClient(address(replica), timeout_s=_TIMEOUT_S) for replica in replicas]
        both = SpineClient([address(replica) for replica in replicas], timeout_s=_TIMEOUT_S)
        servers = Servers(replicas, alone, both)
        print(f"two servers are ready, after {took_s[0]:.0f} and {took_s[1]:.0f} s", flush=True)
        moments = [_moment(servers, samples, topology, rounds)]
        played = []
        for case in _cases(LOAD / mean_alone_s(_joined(moments[0].quiet)), seconds, samples):
            played.append(_play(case, servers, samples))
            moments.append(_moment(servers, samples, topology, rounds))
        both.close()
        for client in alone:
            client.close()
    times = _service_times(moments, machine, float(np.mean(took_s)))
    rows = [_row(each, samples, topology, times) for each in played]
    _write(out, times, moments, rows)
    return 0 if all(row["held"] for row in rows) else 1


def _cases(rate_per_s: float, seconds: float, samples: Sequence[Sample]) -> list[Case]:
    return [
        Case("1 server", 1, Schedule.poisson(rate_per_s, seconds, samples, 1)),
        Case("2 servers", 2, Schedule.poisson(2 * rate_per_s, seconds, samples, 2)),
        Case("1 server, burst", 1, Schedule.burst(BURST, samples), ("p95_s", "per_hour", "answered")),
    ]


def _moment(servers: Servers, samples: Sequence[Sample], topology: Topology, rounds: int) -> Moment:
    """Measure both servers, one after the other, and the first once more beside a busy neighbour."""
    others = _OtherWork(servers.replicas)
    take = [
        partial(measure, client, samples, topology, rounds=rounds, usage=partial(usage, replica))
        for client, replica in zip(servers.alone, servers.replicas, strict=True)
    ]
    quiet = [each() for each in take]
    with _kept_busy(servers.alone[1], samples):
        moment = Moment(quiet, take[0]())
    print(f"a study alone takes {moment.work_s:.2f} s on the core", flush=True)
    _warn(others.cores())
    return moment


def _service_times(moments: Sequence[Moment], machine: str, ready_s: float) -> ServiceTimes:
    """Of all moments together; and how much slower a server is while the other is busy."""
    pairs = zip(_joined([m.quiet[0] for m in moments]), _joined([m.beside for m in moments]), strict=True)
    slowdown = float(np.mean([_work_s(beside) / _work_s(quiet) for quiet, beside in pairs]))
    volumes = _joined([part for moment in moments for part in moment.quiet])
    today = time.strftime("%Y-%m-%d", time.gmtime())
    times = ServiceTimes(machine, today, "cpu", 1, ready_s, volumes, max(1.0, slowdown))
    print(
        f"all in all a study alone takes {times.mean_s:.2f} s, {_mean_work_s(volumes):.2f} s of them on the "
        f"core; work takes {slowdown:.2f} times as long beside a busy neighbour",
        flush=True,
    )
    return times


def _joined(parts: Sequence[tuple[VolumeTimes, ...]]) -> tuple[VolumeTimes, ...]:
    """Several measurements of the same volumes as one."""
    return tuple(
        replace(each[0], studies=tuple(study for volume in each for study in volume.studies))
        for each in zip(*parts, strict=True)
    )


def _work_s(volume: VolumeTimes) -> float:
    """Core-seconds of a study, the median of those measured."""
    return float(np.median([sum(study.cpu.values()) for study in volume.studies]))


def _mean_work_s(volumes: Sequence[VolumeTimes]) -> float:
    weights = [volume.weight for volume in volumes]
    return float(np.average([_work_s(volume) for volume in volumes], weights=weights))


@contextmanager
def _kept_busy(client: SpineClient, samples: Sequence[Sample]) -> Iterator[None]:
    """Two studies at a time through a server while the block lasts."""
    over = threading.Event()

    def send() -> None:
        number = 0
        while not over.is_set():
            client.analyze(samples[number % len(samples)].volume)
            number += 1

    callers = [threading.Thread(target=send) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        over.set()
        for caller in callers:
            caller.join()


def _play(case: Case, servers: Servers, samples: Sequence[Sample]) -> Played:
    """Run a case."""
    client = servers.both if case.servers == 2 else servers.alone[0]
    others, before = _OtherWork(servers.replicas), _used_s(servers)
    with on_cores(CORES[1] if case.servers == 1 else CORES[0] + CORES[1]):
        outcome = play(client, case.schedule, samples)
    work_s = (_used_s(servers) - before) / max(1, int(outcome.answered.sum()))
    played = Played(case, outcome, work_s, others.cores())
    print(f"{case.name}: {work_s:.2f} s on the core for each study answered", flush=True)
    _warn(played.others)
    return played


def _used_s(servers: Servers) -> float:
    return sum(sum(usage(replica).values()) for replica in servers.replicas)


def _row(
    played: Played, samples: Sequence[Sample], topology: Topology, times: ServiceTimes
) -> dict[str, Any]:
    """Simulate what was played, and set both side by side."""
    case, real = played.case, played.outcome
    runs = predict(case, samples, topology, times)
    row: dict[str, Any] = {"case": case.name, "sent": len(case.schedule.due_s)}
    row |= {"other_work_cores": played.others, "work_s": played.work_s, "failures": dict(real.failures)}
    row["studies"] = _studies(real, samples)
    held = True
    for name in FIGURES:
        value, predicted = _figure(real, name), Estimate.of([_figure(run, name) for run in runs])
        off = predicted.mean / value - 1.0
        row[name] = {"measured": value, "predicted": predicted.mean, "half": predicted.half, "off": off}
        held = held and (name not in case.judged or abs(off) <= WITHIN)
    row |= {"judged": case.judged, "held": held}
    print(_line(row), flush=True)
    return row


def predict(case: Case, samples: Sequence[Sample], topology: Topology, times: ServiceTimes) -> list[Outcome]:
    """The case, simulated for each seed: arrivals and volumes are the real ones, service times are drawn."""
    kinds = [volume.name for volume in times.volumes]
    volumes = np.array([kinds.index(samples[which].kind) for which in case.schedule.samples])
    site = Site(
        times=times,
        topology=topology,
        curve=DayCurve(day_s=float(case.schedule.due_s[-1]) + 1.0),
        studies=float(len(volumes)),
        per_host=case.servers,
        timeout_s=_TIMEOUT_S,
        retry=RetryPolicy(max_attempts=1),
    )
    outcomes = []
    for seed in SEEDS:
        run = simulate(site, case.servers, seed=seed, schedule=(case.schedule.due_s, volumes))
        outcomes.append(Outcome(case.schedule, run.latency_s, run.answered))
    return outcomes


def _studies(outcome: Outcome, samples: Sequence[Sample]) -> list[tuple[float, str, float, bool]]:
    """Of each study: when it was due, its kind, its latency, whether it was answered."""
    schedule = outcome.schedule
    return [
        (round(float(due_s), 3), samples[which].kind, round(float(latency_s), 3), bool(answered))
        for due_s, which, latency_s, answered in zip(
            schedule.due_s, schedule.samples, outcome.latency_s, outcome.answered, strict=True
        )
    ]


def _figure(outcome: Outcome, name: str) -> float:
    return float(outcome.answered.sum()) if name == "answered" else float(getattr(outcome, name))


class _OtherWork:
    """Cores that are busy with what is neither a server nor this process: it makes a run worthless."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._began, self._busy, self._own = time.monotonic(), _busy_s(), self._own_s()

    def cores(self) -> float:
        """On average since the start."""
        other = (_busy_s() - self._busy) - (self._own_s() - self._own)
        return max(0.0, other / (time.monotonic() - self._began))

    def _own_s(self) -> float:
        pids = [psutil.Process().pid, *(pid for replica in self._replicas for pid in tree(replica.pid))]
        times = [psutil.Process(pid).cpu_times() for pid in pids]
        return float(sum(each.user + each.system for each in times))


def _warn(cores: float) -> None:
    if cores > LOUD_CORES:
        print(
            f"WARNING: other work kept {cores:.2f} cores busy meanwhile; these figures do not count",
            flush=True,
        )


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def _line(row: dict[str, Any]) -> str:
    """One row in words."""
    parts = [
        f"{name} {row[name]['measured']:.2f} measured, "
        f"{row[name]['predicted']:.2f} ± {row[name]['half']:.2f} predicted ({row[name]['off']:+.0%})"
        for name in FIGURES
    ]
    verdict = "within 15 %" if row["held"] else "NOT within 15 %"
    return f"{row['case']}, {row['sent']} sent: {'; '.join(parts)}: {verdict}"


def _write(out: Path, times: ServiceTimes, moments: Sequence[Moment], rows: list[dict[str, Any]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    times.save(out / "times.json")
    content = {
        "machine": times.machine,
        "date": times.date,
        "seeds": len(SEEDS),
        "mean_alone_s": times.mean_s,
        "mean_work_s": _mean_work_s(times.volumes),
        "work_s_at_each_moment": [moment.work_s for moment in moments],
        "neighbour_slowdown": times.neighbour_slowdown,
        "cases": rows,
    }
    (out / "check.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
