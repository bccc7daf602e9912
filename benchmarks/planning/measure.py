"""Service times of a running server: volumes sent one at a time, with Triton's own statistics of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from load.server_side import Counters, statistics
from load.volumes import Sample

from planning.service import NetworkTimes, StudyTimes, VolumeTimes
from planning.topology import ENTRY, Topology
from spine_client import RetryPolicy, SpineClient

_SETTLED_S, _LOOK_S = 5.0, 0.1
_TRIES = 4


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
    """What one study takes each stage, alone; done again where a canary of the server's came between."""
    for _ in range(_TRIES):
        before, used = _settled(client, topology), usage()
        began = time.perf_counter()
        client.analyze(sample.volume)
        waited_s = time.perf_counter() - began
        after, used_now = _settled(client, topology), usage()
        spent = {name: each.plus(before[name], -1) for name, each in after.items()}
        if all(spent[name].requests == 1 for name in _whole_study(topology)):
            cpu = {name: seconds - used[name] for name, seconds in used_now.items()}
            return _times(waited_s, spent, cpu, topology)
    raise MeasureError(f"{_TRIES} times the server counted more than the one study sent: is it in use?")


def _times(
    waited_s: float, spent: Mapping[str, Counters], cpu: Mapping[str, float], topology: Topology
) -> StudyTimes:
    stages = {stage.name: spent[stage.name].compute_s for stage in topology.stages}
    networks = {
        network.name: NetworkTimes(spent[network.name].requests, spent[network.name].compute_s)
        for network in topology.networks
    }
    return StudyTimes(max(0.0, waited_s - sum(stages.values())), stages, networks, cpu)


def _whole_study(topology: Topology) -> list[str]:
    """The models that each study asks once."""
    return [ENTRY, *(stage.name for stage in topology.stages)]


def _settled(client: SpineClient, topology: Topology) -> dict[str, Counters]:
    """Triton's statistics once all studies have been counted whole: it counts after it has answered."""
    deadline, last = time.monotonic() + _SETTLED_S, None
    while time.monotonic() < deadline:
        now = statistics(client)
        counts = [now[name].requests for name in _whole_study(topology)]
        if counts == last:
            return {name: now[name] for name in (ENTRY, *(pool.name for pool in topology.pools))}
        last = counts
        time.sleep(_LOOK_S)
    raise MeasureError("Triton's statistics do not come to rest: is the server in use?")
