"""Service times of a running server: volumes sent one at a time, with Triton's own statistics of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from load.server_side import Counters, statistics
from load.volumes import Sample

from planning.service import NetworkTimes, StudyTimes, VolumeTimes
from planning.topology import ENTRY, Topology
from spine_client import RetryPolicy, SpineClient

_SETTLED_S = 2.0
"""Triton counts a request after it has answered it; by then it has."""


Usage = Callable[[], Mapping[str, float]]
"""Core-seconds that each model's processes have used so far."""


class MeasureError(RuntimeError):
    """The server's figures cannot be read, for the reason that the message names."""


def measure(
    client: SpineClient, samples: Sequence[Sample], topology: Topology, *, rounds: int, usage: Usage = dict
) -> tuple[VolumeTimes, ...]:
    """Send each sample `rounds` times, in turn, after once to warm up; samples of one kind are put together.

    `usage` is asked before and after each study, where the server's processes can be seen.

    Raises
    ------
    MeasureError
        Somebody else uses the server: a study's figures cannot be told from others.
    """
    alone = client.with_options(retry=RetryPolicy(max_attempts=1))
    for sample in samples:
        alone.analyze(sample.volume)
    measured: dict[str, list[StudyTimes]] = {sample.kind: [] for sample in samples}
    for _ in range(rounds):
        for sample in samples:
            measured[sample.kind].append(one_study(alone, sample, topology, usage))
    weights: dict[str, float] = {}
    for sample in samples:
        weights[sample.kind] = weights.get(sample.kind, 0.0) + sample.weight
    return tuple(VolumeTimes(kind, weights[kind], tuple(each)) for kind, each in measured.items())


def one_study(client: SpineClient, sample: Sample, topology: Topology, usage: Usage = dict) -> StudyTimes:
    """What one study takes each stage, alone."""
    before, used = statistics(client), usage()
    began = time.perf_counter()
    client.analyze(sample.volume)
    waited_s = time.perf_counter() - began
    spent = _settled(client, before, topology)
    stages = {stage.name: spent[stage.name].compute_s for stage in topology.stages}
    networks = {
        network.name: NetworkTimes(spent[network.name].requests, spent[network.name].compute_s)
        for network in topology.networks
    }
    cpu = {name: after - used[name] for name, after in usage().items()}
    return StudyTimes(max(0.0, waited_s - sum(stages.values())), stages, networks, cpu)


def _settled(client: SpineClient, before: Mapping[str, Counters], topology: Topology) -> dict[str, Counters]:
    """What has been counted since `before`, once the whole study is."""
    deadline = time.monotonic() + _SETTLED_S
    names = [ENTRY, *(pool.name for pool in topology.pools)]
    while True:
        after = statistics(client)
        spent = {name: after[name].plus(before.get(name, Counters()), -1) for name in names}
        counts = [spent[name].requests for name in (ENTRY, *(stage.name for stage in topology.stages))]
        if all(count == 1 for count in counts):
            return spent
        if max(counts) > 1 or time.monotonic() > deadline:
            raise MeasureError(f"One study was sent, and the server counted {max(counts)}: is it in use?")
        time.sleep(0.02)
