"""What the plan reads: the model repository, a day, service times; and arrivals drawn from the day."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from planning.arrivals import DayCurve, read_day
from planning.service import NetworkTimes, ServiceTimes, StudyTimes, VolumeTimes, read_service_times
from planning.topology import read_topology
from small_sites import times_of

WORKLOAD = """
name: a-day
day: {studies: 240, hours: [0, 0, 0, 0, 0, 0, 0, 2, 4, 4, 4, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]}
volumes: [{phantom: {region: lumbar, spacing_mm: [4, 1, 1]}}]
"""


def test_the_repositorys_stages_queues_and_instances() -> None:
    topology = read_topology(profile="cpu")
    assert [stage.name for stage in topology.stages] == ["preprocess", "segment", "identify", "report"]
    segment = topology.stages[1]
    assert (segment.instances, segment.network, segment.timeout_s) == (2, "nnunet", 120.0)
    assert segment.max_waiting is not None and topology.stages[0].max_waiting is not None
    assert topology.stages[0].max_waiting > segment.max_waiting
    assert topology.stages[2].max_waiting is None
    assert [network.name for network in topology.networks] == ["nnunet", "measure_cnn"]
    assert not any(pool.on_gpu for pool in topology.pools)


def test_networks_work_on_the_gpu_in_its_profile() -> None:
    pools = read_topology(profile="gpu").pools
    assert {pool.name for pool in pools if pool.on_gpu} == {"nnunet", "measure_cnn"}


def test_another_repository_is_read_not_remembered(tmp_path: Path) -> None:
    for name, text in (
        ("spine_mri", 'platform: "ensemble" ensemble_scheduling { step [ { model_name: "one" } ] }'),
        (
            "one",
            "instance_group [ { count: 3 }, { count: 2 } ] dynamic_batching { default_queue_policy "
            "{ max_queue_size: 7 default_timeout_microseconds: 1500000 } }",
        ),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.pbtxt").write_text(text)
    (pool,) = read_topology(tmp_path).pools
    assert (pool.instances, pool.max_waiting, pool.timeout_s) == (5, 7, 1.5)
    with pytest.raises(ValueError, match="is no ensemble"):
        read_topology(tmp_path, entry="one")
    with pytest.raises(ValueError, match="configuration of missing"):
        read_topology(tmp_path, entry="missing")


def test_a_day_of_a_workload(tmp_path: Path) -> None:
    path = tmp_path / "day.yaml"
    path.write_text(WORKLOAD)
    curve, studies = read_day(path)
    assert studies == 240 and curve.peak == (8 * 3600.0, 9 * 3600.0)
    assert curve.peak_rate(studies) == pytest.approx(40 / 3600)
    path.write_text(WORKLOAD.replace(WORKLOAD.splitlines()[2], "phases: [{for_s: 1, rate_per_hour: 5}]"))
    with pytest.raises(ValueError, match="no day"):
        read_day(path)


@pytest.mark.parametrize("every", [1.0, 7.5])
def test_arrivals_follow_the_curve(every: float) -> None:
    curve = DayCurve((0.0, 1.0, 3.0, 0.0), day_s=400.0)
    drawn = [curve.arrivals(4000.0, np.random.default_rng(seed), every=every) for seed in range(30)]
    counts = np.array([np.histogram(each, curve.edges_s)[0] for each in drawn])
    assert (counts[:, [0, 3]] == 0).all()
    assert counts.mean(axis=0)[1:3] == pytest.approx([1000 / every, 3000 / every], rel=0.02)
    assert all((np.diff(each) >= 0).all() for each in drawn)
    spread = counts[:, 2].var() / counts[:, 2].mean()  # Poisson: 1; each k-th of it: 1 / k
    assert 0.5 / every < spread < 2.0 / every


def test_service_times_are_kept(tmp_path: Path) -> None:
    study = StudyTimes(0.1, {"a": 1.0}, {"n": NetworkTimes(2, 0.5)}, {"a": 0.4, "n": 0.5})
    times = ServiceTimes("m", "2026-11-22", "cpu", 2, 9.5, (VolumeTimes("v", 2.0, (study, study)),), 1.25)
    times.save(tmp_path / "times.json")
    assert read_service_times(tmp_path / "times.json") == times


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    for text in ("{}", "no json", json.dumps({"kind": "something"}), json.dumps([1])):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"other\.json is no file of service times"):
            read_service_times(path)
    times_of(1.0).save(path)
    content = json.loads(path.read_text())
    del content["volumes"][0]["studies"][0]["stages"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="stages"):
        read_service_times(path)
