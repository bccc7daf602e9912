"""How many, how dear, what a loss does: against cases whose answers are plain."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from planning import cli
from planning.answer import (
    Estimate,
    Slo,
    around_peak,
    assess,
    damage,
    recovery_s,
    smallest,
    with_loss,
)
from planning.arrivals import DayCurve
from planning.run import Loss, Run, simulate
from planning.service import ServiceTimes, StudyTimes, VolumeTimes
from small_sites import exponential, site_of, times_of

SEEDS = range(1, 4)


def test_confidence_interval() -> None:
    estimate = Estimate.of([1.0, 2.0, 3.0])
    assert estimate.mean == 2.0 and estimate.half == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert Estimate.of([1.0]).half == math.inf


def test_the_smallest_fleet_is_the_one_theory_names() -> None:
    """D/M/1 nearly: a study waits with chance x = exp((x - 1) / load), and its p95 is ln 20 / (1 - x).

    For 6 s x is 0.5 and the load 0.72, for 30 s x is 0.9 and the load 0.95: 14 and 11 replicas at 10/s. The
    confidence intervals ask for some more.
    """
    site = site_of(times_of(*exponential(1.0)), rate_per_s=10.0, day_s=3600.0, detail=1500)
    tight, loose = (smallest(site, Slo(p95_s), seeds=SEEDS) for p95_s in (6.0, 30.0))
    assert 11 <= loose <= 13 and 14 <= tight <= 17
    with pytest.raises(ValueError, match="no fleet"):
        smallest(site, Slo(0.5), seeds=SEEDS)


def test_a_loss_at_the_peak_asks_for_more() -> None:
    site = site_of(times_of(1.0), rate_per_s=3.0, day_s=600.0, timeout_s=60.0)
    assert smallest(site, Slo(20.0), seeds=SEEDS) == 4
    assert smallest(site, Slo(20.0), seeds=SEEDS, loss=2) >= 5


def test_the_peak_alone_is_as_busy_as_in_the_day() -> None:
    curve = DayCurve((1.0, 2.0, 5.0, 2.0), 400.0)
    site = site_of(times_of(1.0), rate_per_s=1.0, day_s=100.0, curve=curve)
    peak = around_peak(site)
    assert peak.curve.peak_rate(peak.studies) == pytest.approx(site.curve.peak_rate(site.studies))
    assert peak.curve.weights == (2.0, 5.0) and peak.curve.day_s == 200.0


def test_cost_counts_every_hour_of_every_replica() -> None:
    site = site_of(times_of(0.5), rate_per_s=1.0, day_s=3600.0)
    answer, (run, *_) = assess("three", site, 3, Slo(10.0), seeds=SEEDS, price=2.0)
    assert run.replica_hours == pytest.approx(3.0, rel=0.01) and answer.meets
    assert answer.cost_per_1000 is not None
    assert answer.cost_per_1000.mean == pytest.approx(1000 * 3 * 2.0 / 3600, rel=0.05)
    assert answer.busy.mean == pytest.approx(0.5 / 3, rel=0.05)


def test_a_part_of_the_day_is_as_busy_as_in_the_day() -> None:
    """Hours of 1, 2, 5 and 2 in ten; from half an hour before the third on there are 1 + 5 + 1 in ten."""
    part, share = DayCurve((1.0, 2.0, 5.0, 2.0), 4 * 3600.0).between(1.5 * 3600.0, 3.5 * 3600.0, parts=4)
    assert share == pytest.approx(0.7) and part.day_s == 7200.0
    assert np.array(part.weights) / share == pytest.approx(np.array([1.0, 2.5, 2.5, 1.0]) / 7.0)


def test_a_loss_does_what_it_does_in_the_whole_day() -> None:
    """Of three at 80 % load one is lost, so that two are overloaded: as many are late as in the whole day."""
    site = site_of(times_of(1.0), rate_per_s=1.8, day_s=14_400.0, curve=DayCurve((0.5, 1.0), 14_400.0))
    slo, seeds = Slo(10.0), range(1, 9)
    fixed = assess("three", site, 3, slo, seeds=seeds)
    harmed, runs = with_loss(fixed, site, slo, seeds=seeds, loss=1)
    loss = Loss(7200.0 * 1.25)
    whole = damage([simulate(site, 3, seed=seed, loss=loss) for seed in seeds], loss, slo)
    assert harmed.damage is not None and harmed.name == "three, 1 lost"
    here, there = harmed.damage.late, whole.late
    assert abs(here.mean - there.mean) < here.half + there.half < there.mean
    assert all(run.arrived_s.min() > 6000.0 for run in runs), "no more than the time around it"
    assert harmed.replica_hours == fixed[0].replica_hours and harmed.peak_p95_s != fixed[0].peak_p95_s


def run_of(latency_s: np.ndarray) -> Run:
    """One study a second, with these latencies."""
    count = len(latency_s)
    zeros = np.zeros(count, np.int64)
    return Run(np.arange(count) + 0.5, latency_s, zeros, zeros + 1, [(0.0, 1)], [(0.0, 1.0)], 1.0, 0.5, 1.0)


def test_recovery_is_when_five_good_minutes_begin() -> None:
    latency = np.ones(1800)
    latency[600:780] = 50.0  # three bad minutes from the loss on, then a good one, then a bad one
    latency[840:900] = 50.0
    assert recovery_s(run_of(latency), 600.0, Slo(10.0)) == 300.0
    assert recovery_s(run_of(np.ones(1800)), 600.0, Slo(10.0)) == 0.0
    assert recovery_s(run_of(np.full(1800, 50.0)), 600.0, Slo(10.0)) == math.inf


def test_the_command_writes_all_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = {"preprocess": 0.2, "segment": 6.0, "identify": 1.0, "report": 0.2}
    study = VolumeTimes("v", 1.0, (StudyTimes(0.1, stages),))
    ServiceTimes("a test", "2026-11-22", "cpu", 1, 9.0, (study,)).save(tmp_path / "times.json")
    (tmp_path / "day.yaml").write_text(
        "name: a-day\nday: {studies: 2000, hours: [" + ", ".join(["1"] * 12 + ["2"] * 12) + "]}\n"
        "volumes: [{phantom: {region: lumbar, spacing_mm: [4, 1, 1]}}]\n"
    )
    quick = ["--seeds", "3", "--detail", "500"]
    words = [
        "size",
        *quick,
        "--times",
        str(tmp_path / "times.json"),
        "--workload",
        str(tmp_path / "day.yaml"),
    ]
    assert cli.main([*words, "--price", "1.5", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "2000 studies a day, 111 an hour at the peak" in told and "| autoscaled |" in told
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["fleets"][0]["meets"] and content["fleets"][0]["cost_per_1000"]["mean"] > 0
    assert content["fleets"][1]["damage"] is not None
    assert (tmp_path / "plan.png").stat().st_size > 10_000 and (tmp_path / "plan.md").exists()
    assert cli.main([*words, "--p95", "2"]) == 2
    assert "no fleet answers" in capsys.readouterr().err
