"""Round robin, scaling delays, lost nodes: small cases worked out by hand."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from planning.autoscaler import Autoscaler, ScalingSettings
from planning.chart import gate_limit, read_values, scaling_settings
from planning.clock import Clock
from planning.fleet import Delays, Fleet
from planning.replica import End, Ended, Study
from planning.run import Loss, simulate
from small_sites import NEVER, site_of, times_of

from spine_client import RetryPolicy

CHART = Path(__file__).parents[3] / "helm" / "spineserve"
DELAYS = Delays(start_s=30.0, join_s=5.0, notice_s=5.0, replace_s=100.0)


class Counted:
    """Stands for a replica that never answers, so that what it was sent can be counted."""

    def __init__(self, ended: Ended) -> None:
        self.got: list[int] = []
        self.lost = False
        self.waiting, self.busy_s = 0, 0.0
        self._ended = ended

    @property
    def in_flight(self) -> int:
        return len(self.got)

    def accept(self, study: Study) -> None:
        self.got.append(study.number)


def fleet_of(count: int) -> tuple[Clock, Fleet, list[Counted]]:
    env, built = Clock(), list[Counted]()

    def build(ended: Ended) -> Counted:
        built.append(Counted(ended))
        return built[-1]

    rng = np.random.default_rng(1)
    fleet = Fleet(env, build, count, delays=DELAYS, retry=NEVER, rng=rng, ended=lambda *_: None)  # type: ignore[arg-type]
    return env, fleet, built


def send(fleet: Fleet, count: int) -> None:
    for number in range(count):
        fleet.send(Study(number, (), 0.0, 1e9))


def test_round_robin_gives_each_its_turn() -> None:
    _, fleet, built = fleet_of(3)
    send(fleet, 7)
    assert sorted(len(replica.got) for replica in built) == [2, 2, 3]
    assert all(np.diff(replica.got).tolist() in ([3], [3, 3]) for replica in built)


def test_a_new_replica_gets_nothing_before_it_has_started_and_is_known() -> None:
    env, fleet, built = fleet_of(1)
    fleet.resize(2)
    env.run(until=34.9)
    send(fleet, 4)
    assert [len(replica.got) for replica in built] == [4, 0] and fleet.serving == 1
    env.run(until=35.1)
    send(fleet, 4)
    assert [len(replica.got) for replica in built] == [6, 2] and fleet.serving == 2


def test_who_leaves_finishes_and_is_paid_for_until_then() -> None:
    env, fleet, built = fleet_of(2)
    send(fleet, 2)
    env.run(until=10.0)
    fleet.resize(1)
    send(fleet, 2)
    assert [len(replica.got) for replica in built] == [3, 1]
    env.run(until=20.0)
    built[1].got.clear()
    built[1]._ended(Study(1, (), 0.0, 1e9), End.ANSWERED)
    env.run(until=50.0)
    assert fleet.replica_seconds() == pytest.approx(50.0 + 20.0)


def test_one_that_has_not_started_leaves_first() -> None:
    env, fleet, _ = fleet_of(1)
    fleet.resize(2)
    env.run(until=10.0)
    fleet.resize(1)
    env.run(until=60.0)
    assert fleet.serving == 1 and fleet.replica_seconds() == pytest.approx(60.0 + 10.0)


def test_a_lost_node_hangs_then_fails_then_is_replaced() -> None:
    """Lost at 100 s, noticed at 105, replaced at 200, back at 230; every second study hits it before 105."""
    site = site_of(times_of(0.1), rate_per_s=1.0, day_s=300.0, retry=RetryPolicy(max_attempts=1))
    schedule = (np.arange(300.0) + 0.5, np.zeros(300, np.int64))
    run = simulate(site, 2, seed=1, schedule=schedule, loss=Loss(100.0))
    failed = run.arrived_s[~run.answered]
    assert len(failed) in (2, 3) and failed.min() >= 100.0 and failed.max() < 105.0
    serving = dict(run.serving)
    assert [min(serving.items(), key=lambda each: abs(each[0] - at))[1] for at in (90, 150, 225, 240)] == [
        2, 1, 1, 2,
    ]  # fmt: skip
    patient = replace(site, retry=RetryPolicy(max_attempts=2))
    saved = simulate(patient, 2, seed=1, schedule=schedule, loss=Loss(100.0))
    assert saved.answered.all() and 1.0 < saved.latency_s.max() < 5.0 + 0.4 + 0.3


def test_of_a_large_fleet_a_lost_replica_is_missed_as_one_of_so_many() -> None:
    """At 92 % load one of 60 leaves 93.5 to the others, one of 20 would 97, even where 20 are simulated."""
    site = site_of(times_of(1.0), rate_per_s=0.92 * 60, day_s=450.0, retry=RetryPolicy())
    few = 0.92 * 20 * 450
    mean_s, retried = [], []
    for each, count in (
        (site, 60),
        (replace(site, detail=round(few)), 60),
        (replace(site, studies=few), 20),
    ):
        runs = [simulate(each, count, seed=seed, loss=Loss(100.0)) for seed in range(1, 4)]
        mean_s.append(np.mean([run.latency_s[run.between(200.0, 450.0)].mean() for run in runs]))
        retried.append(np.mean([np.sum(run.attempts > 1) for run in runs]))
        assert runs[0].every == (3.0 if each.detail == round(few) else 1.0) and runs[0].answered.all()
    assert mean_s[1] == pytest.approx(mean_s[0], rel=0.03) and mean_s[2] > 1.1 * mean_s[0]
    assert retried[1] == pytest.approx(retried[0], abs=1.5), "what it had in 5 s, and not a third of that"


def test_the_fleet_grows_with_the_load_after_its_delays() -> None:
    """Ten times what one replica can do: it doubles or adds two a minute, and each needs its start."""
    site = site_of(times_of(1.0), rate_per_s=6.0, day_s=1200.0, timeout_s=300.0)
    settings = ScalingSettings(max_replicas=9)
    run = simulate(site, 1, seed=1, scaling=settings)
    steps = Counter()
    for at, count in run.history:
        steps[int(at // 60)] = count
    assert run.history[0] == (0.0, 1) and run.history[1][1] == 3 and run.history[1][0] <= 60.0
    assert steps[max(steps)] == 9
    assert all(after <= max(2 * before, before + 2) for (_, before), (_, after) in pairwise(run.history))
    first = next(at for at, count in run.serving if count > 1)
    assert first == pytest.approx(run.history[1][0] + site.delays.start_s, abs=2.0)
    late = run.between(900.0, 1200.0)
    assert run.percentile(95, late) < 10.0 < run.percentile(95, run.between(0.0, 120.0))


def test_scaling_is_by_the_larger_of_both_triggers() -> None:
    decide = Autoscaler(ScalingSettings(max_replicas=50)).decide
    assert decide(0.0, 10, in_flight=30.0, waiting=0.0) == 15
    decide = Autoscaler(ScalingSettings(max_replicas=50)).decide
    assert decide(0.0, 10, in_flight=0.0, waiting=72.0) == 18
    decide = Autoscaler(ScalingSettings(max_replicas=12)).decide
    assert decide(0.0, 10, in_flight=90.0, waiting=0.0) == 12


def test_ten_percent_are_tolerated() -> None:
    assert Autoscaler(ScalingSettings(max_replicas=50)).decide(0.0, 10, in_flight=21.9, waiting=43.0) == 10


def test_it_doubles_at_most_in_a_minute() -> None:
    scaler = Autoscaler(ScalingSettings(max_replicas=500))
    sizes, current = [], 10
    for at in range(0, 121, 15):
        current = scaler.decide(float(at), current, in_flight=1000.0, waiting=0.0)
        sizes.append(current)
    assert sizes == [20, 20, 20, 20, 40, 40, 40, 40, 80]


def test_it_shrinks_only_after_the_calm_and_one_at_a_time() -> None:
    scaler = Autoscaler(ScalingSettings(max_replicas=10, calm_s=300.0, down_period_s=120.0))
    current, left = scaler.decide(0.0, 5, in_flight=10.0, waiting=0.0), []
    for at in range(15, 700, 15):
        fewer = scaler.decide(float(at), current, in_flight=2.0, waiting=0.0)
        left += [at] * (current - fewer)
        current = fewer
    assert left == [300, 420, 540, 660] and current == 1


def test_settings_are_the_charts_own() -> None:
    values = read_values()
    settings = scaling_settings(values, min_replicas=2, max_replicas=7)
    assert (settings.min_replicas, settings.max_replicas, gate_limit(values)) == (2, 7, 16)
    assert gate_limit(read_values(CHART / "values-cpu.yaml")) == 8
    behaviour = next(
        text for path in (CHART / "templates").glob("*.*")
        if 'define "spineserve.scalingBehavior"' in (text := path.read_text())
    )  # fmt: skip
    percent, pods, down = (int(found) for found in re.findall(r"value: (\d+), period", behaviour)[:3])
    assert (percent, pods, down) == (settings.up_percent, settings.up_pods, settings.down_pods)
    assert "periodSeconds: 60}" in behaviour and settings.up_period_s == 60.0
    assert "max 60 .Values.drain.longestStudySeconds | min 1800" in behaviour
    assert settings.down_period_s == 120.0
