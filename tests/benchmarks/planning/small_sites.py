"""Small sites of one stage, whose answers queueing theory knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from planning.arrivals import DayCurve
from planning.fleet import Delays
from planning.run import Site
from planning.service import ServiceTimes, StudyTimes, VolumeTimes
from planning.topology import Pool, Topology

from spine_client import RetryPolicy

NEVER = RetryPolicy(max_attempts=1)


def times_of(*seconds: float, cores: int = 1) -> ServiceTimes:
    """Studies of one stage, drawn from `seconds`."""
    studies = tuple(StudyTimes(0.0, {"stage": each}) for each in seconds)
    return ServiceTimes("a machine", "2026-11-22", "cpu", cores, 1.0, (VolumeTimes("v", 1.0, studies),))


def exponential(mean_s: float, count: int = 1_000) -> tuple[float, ...]:
    """Quantiles of an exponential distribution: drawn from, they are as good as itself."""
    ranks = (np.arange(count) + 0.5) / count
    values = -np.log1p(-ranks)
    return tuple((values * (mean_s / values.mean())).tolist())


def site_of(times: ServiceTimes, *, rate_per_s: float, day_s: float, **more: object) -> Site:
    """A day of a constant rate, one stage of one instance, no gate, no retries, endless patience."""
    site = Site(
        times=times,
        topology=Topology((Pool(name="stage"),)),
        curve=DayCurve((1.0,), day_s),
        studies=rate_per_s * day_s,
        delays=Delays(start_s=30.0, notice_s=5.0, replace_s=100.0),
        timeout_s=1e9,
        retry=NEVER,
        detail=10**9,
    )
    return replace(site, **more)  # type: ignore[arg-type]
