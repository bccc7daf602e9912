"""What the server can do, measured before a run whose loads are multiples of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from load.arrivals import pick
from load.sender import Sender
from load.target import Target
from load.volumes import Sample
from load.workload import Workload, WorkloadError


@dataclass(frozen=True)
class Capacity:
    """`unloaded_s`: median seconds of each kind of volume sent alone. `per_s`: volumes per second, by as many
    callers as the workload says, each waiting for its answer."""

    unloaded_s: dict[str, float]
    per_s: float


def measure(target: Target, workload: Workload, samples: Sequence[Sample]) -> Capacity:
    """Send each volume alone, twice (the first one warms up), then a mixture by several callers at a time.

    Raises `WorkloadError` if a volume is not answered: nothing can be measured then.
    """
    sender = Sender(target, workload, samples)
    try:
        alone = [_answered(sender, n, volume) for volume in range(len(samples)) for n in range(2)][1::2]
        count, callers = workload.calibrating_requests, workload.calibrating_callers
        volumes = pick(count, [each.weight for each in samples], np.random.default_rng(workload.seed))
        began = time.perf_counter()
        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(lambda item: _answered(sender, *item), enumerate(volumes.tolist())))
        per_s = count / (time.perf_counter() - began)
    finally:
        sender.client.close()
    kinds: dict[str, list[float]] = {sample.kind: [] for sample in samples}
    for sample, seconds in zip(samples, alone, strict=True):
        kinds[sample.kind].append(seconds)
    return Capacity({kind: statistics.median(each) for kind, each in kinds.items()}, per_s)


def _answered(sender: Sender, number: int, volume: int) -> float:
    record = sender.send(number, 0, volume)
    if not record.ok:
        failure = f"{record.outcome} {record.code}".rstrip()
        raise WorkloadError(f"before the run, a volume ({record.kind}) was not answered: {failure}")
    return record.latency_s
