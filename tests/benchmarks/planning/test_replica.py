"""Queues, refusals, deadlines, shared cores: small cases worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planning.clock import Clock
from planning.fleet import FULL_PAUSE_S
from planning.replica import End, Host, Kind, Replica, Step, Study
from planning.run import simulate
from planning.service import NetworkTimes, ServiceTimes, StudyTimes, VolumeTimes, way_of
from planning.topology import Pool, Topology
from small_sites import NEVER, exponential, site_of, times_of

from spine_client import RetryPolicy
from spine_client._refusals import error_from_status


class Bench:
    """A replica whose attempts' ends are written down."""

    def __init__(self, *pools: Pool, cores: float = 1, **more: object) -> None:
        self.env, self.sent = Clock(), 0
        self.ends: dict[int, tuple[float, End]] = {}
        self.replica = Replica(self.env, pools, cores=cores, ended=self._ended, **more)  # type: ignore[arg-type]

    def _ended(self, study: Study, end: End) -> None:
        assert study.number not in self.ends
        self.ends[study.number] = (round(self.env.now, 9), end)

    def send(self, at_s: float, *way: Step, deadline_s: float = 1e9) -> None:
        study = Study(self.sent, way, at_s, deadline_s)
        self.sent += 1
        self.env.later(at_s, self.replica.accept, study)

    def run(self) -> dict[int, tuple[float, End]]:
        self.env.run()
        assert len(self.ends) == self.sent and self.replica.in_flight == 0
        return self.ends


def stage(seconds: float, which: int = 0, threads: int = 1) -> list[Step]:
    return [Step(Kind.TAKE, which), Step(Kind.WORK, Replica.CPU, seconds, threads), Step(Kind.GIVE, which)]


def test_two_on_one_core_take_twice_as_long() -> None:
    bench = Bench(Pool(name="a", instances=2))
    bench.send(0.0, *stage(1.0))
    bench.send(0.5, *stage(1.0))  # alone 0.5 s, then half speed; the other alone for its last half
    assert bench.run() == {0: (1.5, End.ANSWERED), 1: (2.0, End.ANSWERED)}


def test_threads_beyond_the_cores_slow_all_down() -> None:
    bench = Bench(Pool(name="a", instances=2), cores=2)
    bench.send(0.0, *stage(1.0, threads=2))
    bench.send(0.0, *stage(1.0, threads=1))  # three threads on two cores: both at 2/3
    assert bench.run() == {0: (1.5, End.ANSWERED), 1: (1.5, End.ANSWERED)}


def test_a_busy_neighbour_slows_down() -> None:
    env, ends, host = Clock(), [], Host(2.0)
    pools = (Pool(name="a"),)
    replicas = [
        Replica(env, pools, cores=1, host=host, ended=lambda study, _: ends.append((study.number, env.now)))
        for _ in range(2)
    ]
    for number, seconds in enumerate((1.0, 2.0)):  # both half as fast until the first is done at 2 s
        replicas[number].accept(Study(number, tuple(stage(seconds)), 0.0, 1e9))
    env.run()
    assert ends == [(0, 2.0), (1, 3.0)]


def test_a_full_queue_refuses_at_once() -> None:
    bench = Bench(Pool(name="a", max_waiting=2, prefetched=1))
    for _ in range(6):  # one works, one is laid ready, two wait
        bench.send(0.0, *stage(1.0))
    ends = bench.run()
    assert [ends[number] for number in range(4)] == [(float(n + 1), End.ANSWERED) for n in range(4)]
    assert ends[4] == ends[5] == (0.0, End.FULL)


def test_the_gate_refuses_at_the_door() -> None:
    bench = Bench(Pool(name="a"), max_in_flight=2)
    for _ in range(3):
        bench.send(0.0, *stage(1.0))
    assert [end for _, end in bench.run().values()].count(End.FULL) == 1


def test_who_waits_too_long_is_refused_when_its_turn_comes() -> None:
    bench = Bench(Pool(name="a", timeout_s=1.5))
    for _ in range(3):
        bench.send(0.0, *stage(1.0))
    assert bench.run() == {0: (1.0, End.ANSWERED), 1: (2.0, End.ANSWERED), 2: (2.0, End.WAITED)}


def test_a_deadline_ends_a_study_and_frees_what_it_held() -> None:
    bench = Bench(Pool(name="segment"), Pool(name="nnunet"))
    inner = [*stage(1.0, which=1), *stage(1.0, which=1)]
    bench.send(0.0, Step(Kind.TAKE, 0), *inner, Step(Kind.GIVE, 0), deadline_s=0.5)
    bench.send(0.1, *stage(1.0))
    assert bench.run() == {0: (1.0, End.DEADLINE), 1: (2.0, End.ANSWERED)}


def test_a_stage_is_held_while_its_network_works() -> None:
    """Two places in `segment`, one network: the third study waits for a place, not for the network."""
    bench = Bench(Pool(name="segment", instances=2), Pool(name="nnunet"), cores=4)
    way = (Step(Kind.TAKE, 0), *stage(1.0, which=1), Step(Kind.PAUSE, seconds=1.5), Step(Kind.GIVE, 0))
    for _ in range(3):
        bench.send(0.0, *way)
    assert [at for at, _ in bench.run().values()] == [2.5, 3.5, 5.0]


def test_a_pause_leaves_the_core_to_others() -> None:
    bench = Bench(Pool(name="a", instances=2))
    bench.send(0.0, Step(Kind.TAKE, 0), Step(Kind.PAUSE, seconds=1.0), Step(Kind.GIVE, 0))
    bench.send(0.0, *stage(1.0))
    assert [at for at, _ in bench.run().values()] == [1.0, 1.0]


def test_the_way_of_a_study_adds_up_to_what_was_measured() -> None:
    topology = Topology(
        (Pool(name="preprocess"), Pool(name="segment", network="nnunet")), (Pool(name="nnunet"),)
    )
    cpu = {"preprocess": 0.05, "segment": 0.2, "nnunet": 0.5, "tritonserver": 0.01}
    study = StudyTimes(0.02, {"preprocess": 0.1, "segment": 1.0}, {"nnunet": NetworkTimes(3, 0.6)}, cpu)
    way = way_of(study, topology, cores=1)
    spent = {kind: sum(step.seconds for step in way if step.kind is kind) for kind in Kind}
    assert spent[Kind.WORK] == pytest.approx(0.76) and spent[Kind.PAUSE] == pytest.approx(1.12 - 0.76)
    assert sum(step.kind is Kind.TAKE for step in way) == sum(step.kind is Kind.GIVE for step in way) == 5
    bench = Bench(*topology.pools)
    bench.send(0.0, *way)
    assert bench.run()[0][0] == pytest.approx(study.total_s)


def test_a_gpu_works_beside_the_cores() -> None:
    topology = Topology((Pool(name="segment", network="nnunet"),), (Pool(name="nnunet", on_gpu=True),))
    study = StudyTimes(0.0, {"segment": 1.0}, {"nnunet": NetworkTimes(1, 0.6)})
    way = way_of(study, topology, cores=4)
    assert [step.which for step in way if step.kind is Kind.WORK and step.seconds] == [
        Replica.GPU,
        Replica.CPU,
    ]


@pytest.mark.parametrize("seed", range(3))
def test_every_study_ends_exactly_once(seed: int) -> None:
    """Overloaded, with refusals, timeouts, deadlines and retries: none is lost and none counted twice."""
    pool = Pool(name="stage", max_waiting=5, timeout_s=4.0, prefetched=1)
    site = site_of(times_of(*exponential(1.0)), rate_per_s=3.5, day_s=400.0, timeout_s=8.0)
    site = replace(site, topology=Topology((pool,)), retry=RetryPolicy(max_attempts=3))
    run = simulate(site, 2, seed=seed)
    kinds = {End(kind) for kind in run.ends}
    assert (run.ends >= 0).all() and not np.isnan(run.latency_s).any()
    assert {End.ANSWERED, End.FULL} <= kinds and End.BROKEN not in kinds
    assert run.attempts.max() == 3 and run.latency_s[run.answered].max() <= 8.0
    assert 0.9 < run.busy_share <= 1.0


def test_a_refused_study_comes_again_as_the_sdk_does() -> None:
    assert error_from_status("UNAVAILABLE", "Exceeds maximum queue size", None).retry_after_s == FULL_PAUSE_S
    site = site_of(times_of(1.0), rate_per_s=1.0, day_s=10.0, retry=RetryPolicy(max_attempts=2))
    site = replace(site, max_in_flight=1)
    schedule = (np.array([0.0, 0.1]), np.zeros(2, np.int64))
    run = simulate(site, 1, seed=1, schedule=schedule)
    assert run.attempts.tolist() == [1, 2] and run.answered.all()
    assert FULL_PAUSE_S + 1.0 <= run.latency_s[1] <= FULL_PAUSE_S + 0.4 + 1.0
    assert not simulate(replace(site, retry=NEVER), 1, seed=1, schedule=schedule).answered.all()


def test_volumes_are_drawn_by_their_weights() -> None:
    kinds = tuple(
        VolumeTimes(name, weight, (StudyTimes(0.0, {"stage": seconds}),))
        for name, weight, seconds in (("short", 3.0, 0.1), ("long", 1.0, 0.5))
    )
    times = ServiceTimes("m", "2026-11-22", "cpu", 1, 1.0, kinds)
    assert times.mean_s == pytest.approx(0.2)
    run = simulate(site_of(times, rate_per_s=0.01, day_s=400_000.0), 1, seed=1)
    assert np.mean(run.latency_s > 0.3) == pytest.approx(0.25, abs=0.03)
