"""Against what queueing theory knows: waiting times and percentiles within the Monte-Carlo error.

Bounds are those of 95 % confidence intervals over independent runs, doubled (a false alarm once in thousands
of seeds; the seeds are fixed), and each is narrow enough for a wrong discipline to be seen.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from planning.answer import Estimate
from planning.run import Run, Site, simulate
from planning.topology import Pool, Topology
from small_sites import exponential, site_of, times_of

SEEDS = range(8)


def runs_of(site: Site, replicas: int) -> list[Run]:
    return [simulate(site, replicas, seed=seed) for seed in SEEDS]


def mean_of(runs: list[Run]) -> Estimate:
    return Estimate.of([float(np.mean(run.latency_s)) for run in runs])


def agrees(found: Estimate, theory: float, *, within: float = 0.06) -> None:
    assert found.half < within * theory, "too few studies to tell anything"
    assert found.mean == pytest.approx(theory, abs=2 * found.half)


def test_m_m_1() -> None:
    load = 0.6
    site = site_of(times_of(*exponential(1.0)), rate_per_s=load, day_s=6_000.0)
    runs = runs_of(site, 1)
    agrees(mean_of(runs), 1.0 / (1.0 - load))
    agrees(Estimate.of([run.percentile(95) for run in runs]), math.log(20) / (1.0 - load))


def test_m_d_1() -> None:
    load = 0.7  # Pollaczek and Khinchine: half the wait of exponential service
    site = site_of(times_of(1.0), rate_per_s=load, day_s=6_000.0)
    agrees(mean_of(runs_of(site, 1)), 1.0 + load / (2.0 * (1.0 - load)))


def test_m_m_3_by_instances_on_cores_of_their_own() -> None:
    servers, load = 3, 0.6
    offered = servers * load
    waits = offered**servers / math.factorial(servers) / (1 - load)
    erlang_c = waits / (sum(offered**k / math.factorial(k) for k in range(servers)) + waits)
    topology = Topology((Pool(name="stage", instances=servers),))
    times = times_of(*exponential(1.0), cores=servers)
    site = site_of(times, rate_per_s=offered, day_s=2_000.0, topology=topology)
    agrees(mean_of(runs_of(site, 1)), 1.0 + erlang_c / (servers * (1 - load)))


def test_instances_on_one_core_share_it() -> None:
    """Processor sharing: what a study takes is its own length by 1 / (1 - load), however long others are."""
    load = 0.6
    topology = Topology((Pool(name="stage", instances=10_000),))
    lengths = times_of(
        0.1, 0.1, 0.1, 3.7
    )  # one by one, the short ones would wait for the long: 2.6 s on average
    site = site_of(lengths, rate_per_s=load, day_s=8_000.0, topology=topology)
    agrees(mean_of(runs_of(site, 1)), 1.0 / (1.0 - load), within=0.1)


def test_round_robin_is_more_even_than_chance() -> None:
    """E_2/M/1: of two replicas each gets every second study."""
    load, k = 0.6, 2
    root = 0.5
    for _ in range(200):  # the chance that an arrival has to wait is the root of this
        root = (k * load / (k * load + 1 - root)) ** k
    site = site_of(times_of(*exponential(1.0)), rate_per_s=k * load, day_s=3_000.0)
    found = mean_of(runs_of(site, k))
    agrees(found, 1.0 / (1.0 - root))
    assert found.upper < 1.0 / (1.0 - load), "chance alone would be M/M/1"


def test_each_kth_replica_alone_is_like_the_whole_fleet() -> None:
    """What makes thousands of replicas quick: one of 20 sees what all 20 see."""
    site = site_of(times_of(*exponential(1.0)), rate_per_s=20 * 0.7, day_s=500.0)
    whole = Estimate.of([simulate(site, 20, seed=seed).percentile(95) for seed in range(3)])
    long = site_of(times_of(*exponential(1.0)), rate_per_s=20 * 0.7, day_s=3_000.0, detail=2_100)
    runs = [simulate(long, 20, seed=seed) for seed in SEEDS]
    assert runs[0].every == 20
    part = Estimate.of([run.percentile(95) for run in runs])
    assert part.mean == pytest.approx(whole.mean, abs=part.half + whole.half) and part.half < 0.12 * part.mean
    assert part.upper < 0.8 * math.log(20) / (1 - 0.7), "unlike one replica with arrivals of its own"
