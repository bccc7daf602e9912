"""A real run: volumes sent by a schedule, whether answers have come or not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from load.arrivals import pick
from load.volumes import Sample

from planning.arrivals import Times
from spine_client import RetryPolicy, SpineClient, SpineClientError

CALLERS = 96
"""So many may wait at the same time."""


@dataclass(frozen=True)
class Schedule:
    """When which sample is sent: seconds from the start, ascending, and numbers of samples."""

    due_s: Times
    samples: npt.NDArray[np.int64]

    @classmethod
    def poisson(cls, rate_per_s: float, seconds: float, samples: Sequence[Sample], seed: int) -> Schedule:
        """Poisson arrivals for so long, samples drawn by their weights."""
        rng = np.random.default_rng(seed)
        due = np.cumsum(rng.exponential(1.0 / rate_per_s, size=int(3 * rate_per_s * seconds) + 20))
        due = due[due < seconds]
        return cls(due, pick(len(due), [sample.weight for sample in samples], rng))

    @classmethod
    def burst(cls, count: int, samples: Sequence[Sample]) -> Schedule:
        """`count` at once, samples in turn."""
        return cls(np.zeros(count), np.arange(count, dtype=np.int64) % len(samples))


@dataclass(frozen=True, eq=False)
class Outcome:
    """Of each volume: seconds from when it was due to its end, and whether it was answered.

    `failures`: why others were not, and how often.
    """

    schedule: Schedule
    latency_s: Times
    answered: npt.NDArray[np.bool_]
    failures: Mapping[str, int] = field(default_factory=dict)

    @property
    def p95_s(self) -> float:
        """Of the answered."""
        return float(np.percentile(self.latency_s[self.answered], 95))

    @property
    def mean_s(self) -> float:
        """Of the answered."""
        return float(np.mean(self.latency_s[self.answered]))

    @property
    def per_hour(self) -> float:
        """Answers an hour, from the first arrival to the last answer."""
        over = (self.schedule.due_s + self.latency_s)[self.answered].max()
        return float(self.answered.sum() / (over - self.schedule.due_s[0]) * 3600.0)


def play(client: SpineClient, schedule: Schedule, samples: Sequence[Sample]) -> Outcome:
    """Send by the schedule, one attempt each."""
    once = client.with_options(retry=RetryPolicy(max_attempts=1))
    began = time.perf_counter() + 0.2

    def send(due_s: float, which: int) -> tuple[float, str]:
        try:
            once.analyze(samples[which].volume)
            failure = ""
        except SpineClientError as error:
            failure = f"{type(error).__name__}: {error.message}"
        return time.perf_counter() - began - due_s, failure

    with ThreadPoolExecutor(CALLERS) as pool:
        waiting = []
        for due_s, which in zip(schedule.due_s, schedule.samples, strict=True):
            time.sleep(max(0.0, began + due_s - time.perf_counter()))
            waiting.append(pool.submit(send, float(due_s), int(which)))
        ended = [each.result() for each in waiting]
    latency, failures = zip(*ended, strict=True)
    answered = np.array([not failure for failure in failures])
    return Outcome(schedule, np.array(latency), answered, Counter(filter(None, failures)))
