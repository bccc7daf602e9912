"""The command: `measure` service times, `size` a fleet, `check` predictions against real runs."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from load.volumes import DEFAULT_CACHE, samples_of
from load.workload import WorkloadError, read_workload

from planning import page
from planning.answer import Answer, Slo, assess, smallest, with_loss
from planning.arrivals import read_day
from planning.chart import gate_limit, read_values, scaling_settings
from planning.check import check
from planning.embedded import address, embedded, usage
from planning.fleet import Delays
from planning.measure import MeasureError, measure
from planning.run import FINEST_LOSS, Run, Site
from planning.service import ServiceTimes, read_service_times
from planning.topology import read_topology
from spine_client import SpineClient, SpineClientError

WORKLOADS = Path(__file__).parents[1] / "workloads"
_MISUSE = (ValueError, WorkloadError, MeasureError, SpineClientError, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 where an SLO or a prediction was missed, 2 for what cannot be done."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except _MISUSE as error:
        print(f"plan.py: {error}", file=sys.stderr)
        return 2


def _measure(parsed: argparse.Namespace) -> int:
    topology = read_topology(profile=parsed.profile)
    samples = samples_of(read_workload(parsed.workload).volumes, DEFAULT_CACHE)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    if parsed.host is not None:
        with SpineClient(parsed.host) as client:
            volumes = measure(client, samples, topology, rounds=parsed.rounds)
        times = ServiceTimes(parsed.machine, today, parsed.profile, parsed.cores, parsed.ready_s, volumes)
    else:
        cores = [list(range(parsed.cores))]
        with (
            tempfile.TemporaryDirectory() as folder,
            embedded(cores, Path(folder)) as (replicas, took_s),
            SpineClient(address(replicas[0])) as client,
        ):
            so_far = partial(usage, replicas[0])
            volumes = measure(client, samples, topology, rounds=parsed.rounds, usage=so_far)
        times = ServiceTimes(parsed.machine, today, "cpu", parsed.cores, took_s[0], volumes)
    parsed.out.parent.mkdir(parents=True, exist_ok=True)
    times.save(parsed.out)
    print(f"{parsed.out}: a study alone takes {times.mean_s:.2f} s on average")
    return 0


def _size(parsed: argparse.Namespace) -> int:
    began = time.monotonic()
    site, slo, seeds = _site(parsed), Slo(parsed.p95, parsed.failed), range(1, parsed.seeds + 1)
    count = parsed.replicas or smallest(site, slo, seeds=seeds)
    common: dict[str, Any] = {"seeds": seeds}
    fixed = assess(f"{count} fixed", site, count, slo, price=parsed.price, **common)
    shown = [fixed, with_loss(fixed, site, slo, loss=parsed.node, **common)]
    if not parsed.replicas and (safe := _safe(site, slo, seeds, count, parsed.node)) != count:
        bigger = assess(f"{safe} fixed", site, safe, slo, price=parsed.price, **common)
        shown.append(with_loss(bigger, site, slo, loss=parsed.node, **common))
    most = parsed.max_replicas or 2 * count
    values = read_values(parsed.values)
    common["scaling"] = scaling_settings(
        values, min_replicas=min(parsed.min_replicas, most), max_replicas=most
    )
    scaled = assess("autoscaled", site, common["scaling"].min_replicas, slo, price=parsed.price, **common)
    shown += [scaled, with_loss(scaled, site, slo, loss=parsed.node, **common)]
    _write(parsed, site, slo, [(answer, runs[0]) for answer, runs in shown], time.monotonic() - began)
    return 0 if fixed[0].meets else 1


def _safe(site: Site, slo: Slo, seeds: Sequence[int], count: int, node: int) -> int:
    """Replicas that bear a lost node; of a fleet of many nodes, one more is less than can be told."""
    return count if count > FINEST_LOSS * node else smallest(site, slo, seeds=seeds, loss=node)


def _site(parsed: argparse.Namespace) -> Site:
    times = read_service_times(parsed.times)
    curve, studies = read_day(parsed.workload)
    delays = Delays()
    given = {
        name: getattr(parsed, name)
        for name in ("start_s", "join_s", "notice_s", "replace_s")
        if getattr(parsed, name) is not None
    }
    return Site(
        times=times,
        topology=read_topology(profile=times.profile),
        curve=curve,
        studies=parsed.studies or studies,
        delays=replace(delays, **given),
        max_in_flight=gate_limit(read_values(parsed.values)),
        detail=parsed.detail,
    )


def _write(
    parsed: argparse.Namespace,
    site: Site,
    slo: Slo,
    shown: list[tuple[Answer, Run]],
    seconds: float,
) -> None:
    parsed.out.mkdir(parents=True, exist_ok=True)
    answers = [answer for answer, _ in shown]
    text = page.table(answers)
    intro = (
        f"{site.studies:g} studies a day, {site.curve.peak_rate(site.studies) * 3600:.0f} an hour at the "
        f"peak; "
        f"a study alone takes {site.times.mean_s:.2f} s ({site.times.machine}, {site.times.date}). "
        f"SLO at the peak: p95 {slo.p95_s:g} s, {slo.failed:.2%} failed. At most {parsed.seeds} runs each."
    )
    print(f"{intro}\n\n{text}\nsimulated in {seconds:.0f} s")
    (parsed.out / "plan.md").write_text(f"{intro}\n\n{text}", encoding="utf-8")
    content = {"studies": site.studies, "slo": asdict(slo), "seeds": parsed.seeds, "simulated_s": seconds}
    content |= {"times": str(parsed.times.name), "delays": asdict(site.delays)}
    content["fleets"] = [asdict(answer) for answer in answers]
    (parsed.out / "plan.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    page.draw(parsed.out / "plan.png", site, slo, shown)


def _check(parsed: argparse.Namespace) -> int:
    samples = samples_of(read_workload(parsed.workload).volumes, DEFAULT_CACHE)
    return check(samples, parsed.out, machine=parsed.machine, seconds=parsed.seconds, rounds=parsed.rounds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="plan.py", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _measure_options(commands.add_parser("measure", help="service times of a server, volumes one at a time"))
    _size_options(commands.add_parser("size", help="how many replicas, their cost, a lost node"))
    _check_options(commands.add_parser("check", help="predictions against 1 and 2 embedded servers"))
    return parser


def _measure_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_measure)
    add = parser.add_argument
    add("--host", help="a running server that nobody else uses (default: start one here)")
    add("--workload", type=Path, default=WORKLOADS / "small.yaml", help="whose volumes are sent")
    add("--rounds", type=int, default=8, help="of each volume (default: 8)")
    add("--cores", type=int, default=1, help="that the server has, or gets (default: 1)")
    add("--profile", choices=("cpu", "gpu"), default="cpu", help="of --host (default: cpu)")
    add("--ready-s", type=float, default=0.0, help="how long --host took to start, if known")
    add("--machine", default="unknown machine", help="what kind it is, for the record")
    add("--out", type=Path, default=Path("out/plan/times.json"))


def _size_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_size)
    add = parser.add_argument
    add("--times", type=Path, required=True, help="what `measure` wrote")
    add("--workload", type=Path, default=WORKLOADS / "day.yaml", help="whose day it is")
    add("--studies", type=float, help="in a day (default: the workload's)")
    add("--p95", type=float, default=30.0, help="SLO: seconds (default: 30)")
    add("--failed", type=float, default=0.001, help="SLO: share without an answer (default: 0.001)")
    add("--price", type=float, help="of one replica for one hour")
    add("--replicas", type=int, help="assess so many instead of searching")
    add("--min-replicas", type=int, default=1, help="of the autoscaled fleet (default: 1)")
    add("--max-replicas", type=int, help="of the autoscaled fleet (default: twice the fixed one)")
    add("--node", type=int, default=1, help="replicas on one node, which is lost (default: 1)")
    add("--values", type=Path, help="a values file of the chart, over its defaults")
    for name, what in (
        ("start", "a pod's creation to its first answer"),
        ("join", "until callers know of it"),
        ("notice", "until callers know that it is gone"),
        ("replace", "until a lost pod is made anew"),
    ):
        add(f"--{name}-s", type=float, help=f"seconds: {what} (default: {getattr(Delays(), f'{name}_s'):g})")
    add("--seeds", type=int, default=5, help="runs of each fleet at most (default: 5)")
    add("--detail", type=int, default=20_000, help="studies that one run simulates at most (default: 20000)")
    add("--out", type=Path, default=Path("out/plan"))


def _check_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_check)
    add = parser.add_argument
    add("--workload", type=Path, default=WORKLOADS / "small.yaml", help="whose volumes are sent")
    add("--seconds", type=float, default=180.0, help="of each real run (default: 180)")
    add("--rounds", type=int, default=2, help="of each volume before and after each run (default: 2)")
    add("--machine", default="unknown machine", help="what kind it is, for the record")
    add("--out", type=Path, default=Path("out/plan"))
