"""Figures worked out by hand: latency, what was achieved, the knee, verdicts, and what is beyond noise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from load import session
from load.compare import Kept, compare, conclusion
from load.knee import Point, curve, find_knee
from load.records import Record, read_records, write_records
from load.server_side import Counters, Look, spent, use
from load.slo import DEFAULT, Rule, judge
from load.summary import Run, distribution
from load.text import shouts, summary_text
from load.workload import Phase, VolumeKind, Workload

KIND = VolumeKind(name="small")


def record(due_s: float, latency_s: float, *, phase: int = 0, **changes: Any) -> Record:
    done_s = due_s + latency_s
    times = {"due_s": due_s, "sent_s": due_s, "done_s": done_s, "wire_s": latency_s}
    fields = {"number": int(1000 * due_s), "kind": "small", "outcome": "ok", "phase": phase, **times}
    return Record(**{**fields, **changes})


def workload(*phases: Phase) -> Workload:
    return Workload(
        name="x", about="", seed=1, poisson=False, timeout_s=9.0, attempts=1, calibrating_callers=1,
        calibrating_requests=2, phases=phases, volumes=(KIND,),
    )  # fmt: skip


def test_percentiles_are_values_that_were_seen() -> None:
    figures = distribution([float(n) for n in range(1, 11)])
    assert (figures["p50"], figures["p90"], figures["p95"], figures["p99"]) == (5.0, 9.0, 10.0, 10.0)
    assert distribution([]) == {"count": 0}


def test_a_stall_counts_for_all_that_came_due_meanwhile() -> None:
    """A volume each second, answered in 0.1 s; at 3 s everything stands still until 8 s, sending included."""
    moved = [record(n, 0.1) for n in (0, 1, 2, 8, 9)]
    records = [*moved, *(record(n, 8.1 - n, sent_s=8.0) for n in range(3, 8))]
    run = Run(workload(Phase(name="a", seconds=10.0, level=(1.0, 1.0))), records, [], 0.0)
    summary = run.summary()
    latency = summary["overall"]["latency_s"]
    assert latency["max"] == pytest.approx(5.1) and latency["p50"] == pytest.approx(0.1)
    assert latency["p90"] == pytest.approx(4.1)  # timed from sending it would be 0.1
    assert summary["generator"]["late"] == 5 and summary["generator"]["fell_behind"]


def test_a_growing_backlog_is_not_achieved_though_every_volume_is_answered_in_the_end() -> None:
    """Two volumes per second are due for 10 s, and one per second is answered."""
    records = [record(0.25 + n / 2, 1.0 + n / 2) for n in range(20)]
    steady = Phase(name="a", seconds=10.0, level=(2.0, 2.0))
    figures = Run(workload(steady), records, [], 0.0).summary()["overall"]
    assert figures["error_rate"] == 0 and figures["intended"] == 20
    assert figures["achieved"] == pytest.approx(0.5) and figures["fell_short"]
    assert figures["volumes_per_hour"] == pytest.approx(3600.0)


def test_warm_up_is_left_out_and_what_is_meant_to_saturate_is_not_judged() -> None:
    phases = (
        Phase(name="w", seconds=1.0, level=(1.0, 1.0), warm_up=True),
        Phase(name="a", seconds=2.0, level=(1.0, 1.0)),
        Phase(name="s", seconds=1.0, level=(1.0, 1.0), saturates=True),
    )
    judged = [record(1.5, 0.2, phase=1), record(2.5, 0.2, phase=1)]
    records = [record(0.5, 9.0), *judged, record(3.5, 8.0, phase=2)]
    overall = Run(workload(*phases), records, [], 0.0).summary()["overall"]
    assert overall["sent"] == 2 and overall["latency_s"]["max"] == pytest.approx(0.2)


def summary_of(records: list[Record], *phases: Phase, looks: list[Look] | None = None) -> dict[str, Any]:
    run = Run(workload(*phases), records, looks or [], 0.0)
    about = {"workload": {"name": "x", "about": ""}, "command": "c", "date": "d", "machine": "m"}
    return {**about, "capacity": None, "notes": [], "knee": None, **run.summary()}


def test_what_falls_short_is_said_in_capitals_and_fails() -> None:
    records = [record(0.25 + n / 2, 1.0 + n / 2) for n in range(20)]
    summary = summary_of(records, Phase(name="rush", seconds=10.0, level=(2.0, 2.0)))
    summary["slo"] = judge(DEFAULT, summary)
    assert [each["held"] for each in summary["slo"]] == [True, False]
    text = summary_text(summary)
    assert "ACHIEVED 3600 OF 7200 VOLUMES PER HOUR (50%) IN “rush”" in text
    assert "THE GENERATOR FELL BEHIND" not in text
    late = [replace(each, sent_s=each.due_s + 0.5) for each in records]
    assert "THE GENERATOR FELL BEHIND: OF 20 VOLUMES 20 WERE SENT, 20 OF THEM LATE" in "".join(
        shouts(summary_of(late, Phase(name="rush", seconds=10.0, level=(2.0, 2.0))))
    )


def test_exit_codes_put_the_generator_first() -> None:
    def code(fell_behind: bool, *held: bool) -> int:
        slo = [{"held": each} for each in held]
        return session.exit_code({"generator": {"fell_behind": fell_behind}, "slo": slo})

    assert code(False, True, True) == 0 and code(False, True, False) == 1
    assert code(True, True) == code(True, False) == 3


def test_volumes_that_were_never_sent_are_the_generators_failure() -> None:
    summary = summary_of([record(0.25, 0.1)], Phase(name="a", seconds=5.0, level=(2.0, 2.0)))
    assert summary["generator"]["fell_behind"] and summary["generator"]["sent"] == 1


def test_rules_name_phases_or_all_that_is_judged() -> None:
    phases = [Phase(name=name, seconds=1.0, level=(2.0, 2.0)) for name in "ab"]
    records = [record(0.25, 0.1), record(0.75, 0.1), record(1.25, 2.0, phase=1), record(1.75, 0.1, phase=1)]
    summary = summary_of(records, *phases)
    verdicts = judge([Rule({"p95_s": 1.0}, ("a", "b")), Rule({"p50_s": 1.0})], summary)
    assert [(each["about"], each["held"]) for each in verdicts] == [
        ("a", True),
        ("b", False),
        ("all that is judged", True),
    ]
    failed = [replace(each, outcome="ServerUnavailable") for each in records]
    broken = judge([Rule({"error_rate": 0.5, "p95_s": 9.0})], summary_of(failed, *phases))
    assert [each["held"] for each in broken] == [False, False]  # no answer, no percentile, no pass


def test_errors_are_told_by_the_sdks_classes_and_codes() -> None:
    refused = record(0.1, 0.1, outcome="RequestRejected", code="memory_limit")
    records = [refused, record(0.2, 0.1, outcome="ServerFailed"), record(0.3, 0.1)]
    summary = summary_of(records, Phase(name="a", seconds=1.0, level=(3.0, 3.0)))
    assert summary["overall"]["errors"] == {"RequestRejected (memory_limit)": 1, "ServerFailed": 1}
    assert summary["overall"]["error_rate"] == pytest.approx(2 / 3)


def test_the_knee_is_the_last_load_that_is_carried() -> None:
    p95s_s = {100.0: 0.1, 200.0: 0.12, 300.0: 0.2, 400.0: 0.9}
    rising = [Point(offered, min(offered, 350.0), 0.1, p95_s, 50) for offered, p95_s in p95s_s.items()]
    knee = find_knee(rising)
    assert knee is not None and knee["reached"] and knee["offered_per_hour"] == 300.0
    flat = find_knee(rising[:3])
    assert flat is not None and not flat["reached"] and flat["offered_per_hour"] == 300.0
    assert find_knee(rising[:2]) is None


def test_a_ramp_becomes_points_of_a_curve() -> None:
    """From 0 to 20 per second in 10 s: in each eighth what was due there."""
    ramp = Phase(name="r", seconds=8.0, level=(0.0, 20.0))
    records = [record(8 * np.sqrt((n + 0.5) / 80), 0.1, number=n) for n in range(80)]
    points = curve([ramp], [0.0], records)
    assert [point.count for point in points] == [6, 9, 11, 14, 16, 19]  # 1 and 4 are too few for a percentile
    assert points[-1].offered == pytest.approx(19 * 3600) and points[-1].p95_s == pytest.approx(0.1)


def test_statistics_are_what_was_added_between_looks_and_a_restart_leaves_them_out() -> None:
    def look(at: float, requests: int, queue_s: float, cpu_s: float) -> Look:
        counters = Counters(requests, 0, requests, queue_s, 2 * queue_s)
        return Look(at, {"segment": counters}, {"cpu": 0.5}, {}, {"server": cpu_s})

    looks = [look(0.0, 10, 1.0, 5.0), Look(1.0), look(2.0, 14, 3.0, 8.0)]
    assert spent(looks)["segment"] == Counters(4, 0, 4, 2.0, 4.0)
    assert use([looks[0], looks[2]]) == {"cpu": 0.5, "cores_server": 1.5}
    assert spent([look(0.0, 10, 1.0, 0.0), look(1.0, 2, 0.1, 0.0)]) == {}


def test_records_survive_their_file(tmp_path: Path) -> None:
    failed = record(0.5, 1.0, outcome="ServerFailed", code="x")
    records = [record(1.5, 0.25, stages_s={"segment": 0.125}), failed]
    write_records(tmp_path / "records.csv", records)
    assert read_records(tmp_path / "records.csv") == [records[1], records[0]]


def kept(latencies: np.ndarray) -> Kept:
    records = [record(float(n), float(latency)) for n, latency in enumerate(latencies)]
    run = Run(workload(Phase(name="a", seconds=len(records), level=(1.0, 1.0))), records, [], 0.0)
    return Kept(json.loads(json.dumps(run.summary())), records)


def queueing(seed: int, scale: float = 1.0, count: int = 200) -> np.ndarray:
    """Latencies of a queue with one server (Lindley): neighbours depend on each other."""
    rng, waiting, found = np.random.default_rng(seed), 0.0, []
    for gap, service in zip(rng.exponential(1.6, count), scale * rng.uniform(0.8, 1.2, count), strict=True):
        found.append(waiting + service)
        waiting = max(0.0, waiting + service - gap)
    return np.array(found)


def test_two_runs_of_the_same_queue_are_hardly_ever_called_different() -> None:
    """12 pairs; Mann-Whitney alone, which takes neighbours for independent, calls several different."""
    pairs = [compare(kept(queueing(2 * n)), kept(queueing(2 * n + 1))) for n in range(12)]
    wrong = sum(any(each.beyond_noise for each in pair) for pair in pairs)
    naive = sum(next(each.p_value for each in pair if each.p_value is not None) < 0.05 for pair in pairs)
    assert wrong <= 1 and naive >= 3, (wrong, naive)


def test_a_server_that_is_clearly_slower_is_called_slower() -> None:
    differences = compare(kept(queueing(1)), kept(queueing(2, scale=1.4)))
    median = next(each for each in differences if each.figure == "p50 s")
    assert median.beyond_noise and median.change is not None and median.change > 0.3
    assert "p50 s" in conclusion(differences)


def test_too_few_volumes_are_not_compared() -> None:
    differences = compare(kept(queueing(1, count=10)), kept(queueing(2, count=10)))
    assert all(each.beyond_noise is None for each in differences if each.figure != "error_rate")
    assert "Nothing is beyond noise, of 1 figure" in conclusion(differences)


def test_errors_that_are_no_accident_are_told_from_one_that_may_be() -> None:
    def with_errors(count: int) -> Kept:
        run = kept(queueing(1))
        phase = run.summary["phases"][0]
        return Kept(
            {"phases": [{**phase, "ok": phase["sent"] - count, "error_rate": count / phase["sent"]}]},
            run.records,
        )

    def verdict(count: int) -> bool | None:
        differences = compare(with_errors(0), with_errors(count))
        return next(each.beyond_noise for each in differences if each.figure == "error_rate")

    assert verdict(1) is False and verdict(12) is True
