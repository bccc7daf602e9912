"""Workload files: those that are there can be used, and what is wrong with others is said with its place."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from load.arrivals import phase_at, schedule
from load.slo import read_slo
from load.workload import Phase, WorkloadError, read_workload

from .conftest import ROOT

WORKLOADS = sorted((ROOT / "benchmarks" / "workloads").glob("*.yaml"))
VOLUMES = "volumes: [{phantom: {region: lumbar, spacing_mm: [4, 2, 2]}}]"


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("path", WORKLOADS, ids=lambda path: path.stem)
def test_every_workload_of_the_checkout_can_be_read_and_sends_something(path: Path) -> None:
    workload = read_workload(path).scaled(1.0)
    assert workload.name == path.stem and workload.about
    weights = [kind.weight for kind in workload.volumes]
    if workload.is_open:
        arrivals = schedule(workload, weights)
        measured = {n for n, phase in enumerate(workload.phases) if phase.level[1] > 0.1}
        assert measured <= {arrival.phase for arrival in arrivals}
    else:
        assert all(phase.callers for phase in workload.phases)


def test_the_kinds_that_are_promised_are_there() -> None:
    names = {path.stem for path in WORKLOADS}
    assert {"small", "steady", "ramp", "burst", "soak", "mixed", "day", "callers"} <= names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nvolumes: [", "mine.yaml, line 2: this is not YAML"),
        (f"name: x\n{VOLUMES}", "expected either phases or day"),
        (
            f"name: x\n{VOLUMES}\nphases: [{{for_s: 5}}]",
            "phases[0]: expected one of load, rate_per_hour, callers",
        ),
        (f"name: x\n{VOLUMES}\nphases: [{{for_s: 5, load: much}}]", "phases[0].load: 'much' is not of type"),
        (
            f"name: x\n{VOLUMES}\nphases: [{{for_s: 0, load: 1}}]",
            "phases[0].for_s: 0 is less than or equal to",
        ),
        (f"name: x\n{VOLUMES}\nphases: [{{for_s: 5, laod: 1}}]", "'laod' was unexpected"),
        (f"name: x\n{VOLUMES}\nphases: [{{for_s: 5, load: 1, think_s: 1}}]", "think_s belongs to callers"),
        (f"name: x\n{VOLUMES}\nphases: [{{for_s: 5, load: 1, warm_up: true}}]", "nothing would be measured"),
        (f"name: x\n{VOLUMES}\nphases: [{{for_s: 5, load: 1}}, {{for_s: 5, callers: 1}}]", "do not mix"),
        (
            f"name: x\n{VOLUMES}\nphases: [{{for_s: 5, load: 1}}]\nseed: -1",
            "seed: -1 is less than the minimum",
        ),
        (
            "name: x\nvolumes: [{}]\nphases: [{for_s: 5, load: 1}]",
            "volumes[0]: expected either phantom or dicom",
        ),
        (
            "name: x\nvolumes: [{phantom: {region: lumbar, spacing_mm: [4, 2, 2], orientation: PPP}}]\n"
            "phases: [{for_s: 5, load: 1}]",
            "volumes[0].phantom: orientation must name three different axes",
        ),
        (f"name: x\n{VOLUMES}\nday: {{studies: 9, hours: [1, 2]}}", "day.hours: [1, 2] is too short"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        read_workload(written(tmp_path, text))
    assert said in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_a_compressed_day_is_as_busy_for_a_shorter_time(tmp_path: Path) -> None:
    hours = [0] * 8 + [3, 1] + [0] * 14
    path = written(tmp_path, f"name: x\n{VOLUMES}\nday: {{studies: 720, hours: {hours}, compress: 60}}")
    workload = read_workload(path)
    assert workload.seconds == 24 * 60
    assert (
        workload.phases[8].level == pytest.approx((540 / 3600, 540 / 3600))
        and workload.phases[8].seconds == 60
    )
    assert read_workload(path, compress=3600).seconds == 24
    path.write_text(path.read_text().replace("compress: 60", "peak_load: 0.9, compress: 60"))
    phases = read_workload(path).scaled(2.0).phases
    assert phases[8].level == pytest.approx((1.8, 1.8)) and phases[9].level == pytest.approx((0.6, 0.6))


def test_even_arrivals_follow_the_rate(tmp_path: Path) -> None:
    """2 per second for 2 s, then 0 to 4 per second in 2 s: at its time t it has sent t² volumes."""
    phases = "[{for_s: 2, rate_per_hour: 7200}, {for_s: 2, rate_per_hour: [0, 14400]}]"
    path = written(tmp_path, f"name: x\narrivals: even\n{VOLUMES}\nphases: {phases}")
    arrivals = schedule(read_workload(path), [1.0])
    expected = [0.25, 0.75, 1.25, 1.75, *(2 + (k + 0.5) ** 0.5 for k in range(4))]
    assert [arrival.due_s for arrival in arrivals] == pytest.approx(expected, abs=2e-3)
    assert [arrival.phase for arrival in arrivals] == [0] * 4 + [1] * 4


def test_poisson_arrivals_have_the_rate_and_the_spread_of_poisson(tmp_path: Path) -> None:
    path = written(tmp_path, f"name: x\n{VOLUMES}\nphases: [{{for_s: 10000, rate_per_hour: 3600}}]")
    workload = read_workload(path)
    arrivals = schedule(workload, [3.0, 1.0])
    gaps = [later.due_s - earlier.due_s for earlier, later in pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert len(arrivals) == 10000 and spread == pytest.approx(mean, rel=0.05)
    assert sum(each.volume == 0 for each in arrivals) / len(arrivals) == pytest.approx(0.75, abs=0.02)
    assert schedule(workload, [3.0, 1.0]) == arrivals  # every worker makes the same one


def test_every_phase_offers_the_load_it_says_whatever_the_seed(tmp_path: Path) -> None:
    """10.4 and 10.4 and 0 to 5.2 volumes: 10, 11 and 5, at moments that the seed draws."""
    rates = (9360, 9360, [0, 9360])
    phases = "[" + ", ".join(f"{{for_s: 4, rate_per_hour: {rate}}}" for rate in rates) + "]"
    moments = set()
    for seed in range(20):
        path = written(tmp_path, f"name: x\nseed: {seed}\n{VOLUMES}\nphases: {phases}")
        arrivals = schedule(read_workload(path), [1.0])
        assert Counter(arrival.phase for arrival in arrivals) == {0: 10, 1: 11, 2: 5}
        assert arrivals == sorted(arrivals, key=lambda arrival: arrival.due_s)
        moments.add(arrivals[0].due_s)
    assert len(moments) == 20


def test_moments_belong_to_phases() -> None:
    phases = [Phase(name="a", seconds=2.0), Phase(name="b", seconds=3.0)]
    assert [phase_at(phases, at) for at in (0.0, 1.99, 2.0, 4.9, 7.0)] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [{p95_s: 3, phases: [nowhere]}]", "the workload has no phase 'nowhere'"),
        ("rules: [{phases: [here]}]", "there is no bound"),
        ("rules: [{p96_s: 3}]", "'p96_s' was unexpected"),
        ("rules: []", "rules: [] should be non-empty"),
    ],
)
def test_objectives_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        read_slo(written(tmp_path, text), ["here"])
    assert said in str(caught.value)


def test_the_objectives_of_the_checkout_can_be_used() -> None:
    assert read_slo(ROOT / "benchmarks" / "load" / "slo.yaml", ["a"])[0].bounds["p95_s"] > 0
