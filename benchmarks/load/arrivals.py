"""When volumes are due in an open loop, and which each is: the same for the same seed, on every worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from load.workload import Phase, Workload

_STEPS = 512
"""Points at which the integral of a phase's rate is known; between them it is taken as straight."""


@dataclass(frozen=True)
class Arrival:
    """One volume of a schedule: seconds after the start at which it is due, its phase and its volume."""

    due_s: float
    phase: int
    volume: int


def expected_count(phase: Phase) -> float:
    """Volumes that a phase with levels in volumes per second sends on average."""
    return phase.seconds * sum(phase.level) / 2


def phase_starts(phases: Sequence[Phase]) -> list[float]:
    """Seconds after the start at which each phase begins."""
    return [0.0, *accumulate(phase.seconds for phase in phases)][:-1]


def phase_at(phases: Sequence[Phase], at_s: float) -> int:
    """Index of the phase at a moment; the last one after the end."""
    return max(0, int(np.searchsorted(phase_starts(phases), at_s, side="right")) - 1)


def schedule(workload: Workload, weights: Sequence[float]) -> list[Arrival]:
    """The arrivals of an open workload whose levels are in volumes per second, in order.

    Poisson arrivals: independent callers, as in a hospital; even ones: equal distances. With a rate that
    changes, a process of rate 1 is carried over the integral of the rate (time change). Each phase is given
    the number of arrivals that its load asks for, rounded: the moments of a Poisson process with a given
    number are independent and uniform. Left to chance, a phase of 50 may be off its load by a seventh.
    """
    rng = np.random.default_rng(workload.seed)
    times = _due_times(workload.phases, rng if workload.poisson else None)
    volumes = pick(len(times), weights, rng)
    return [
        Arrival(float(due), phase_at(workload.phases, due), int(volume))
        for due, volume in zip(times, volumes, strict=True)
    ]


def pick(count: int, weights: Sequence[float], rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices of `count` volumes, drawn by weight."""
    shares = np.asarray(weights, dtype=float)
    return rng.choice(len(shares), size=count, p=shares / shares.sum())


def _due_times(phases: Sequence[Phase], rng: np.random.Generator | None) -> NDArray[np.float64]:
    moments, arrived = _integral(phases)
    if rng is None:
        marks = np.arange(round(float(arrived[-1]))) + 0.5
    else:
        edges = list(accumulate(map(expected_count, phases), initial=0.0))
        drawn = [rng.uniform(low, high, round(high) - round(low)) for low, high in pairwise(edges)]
        marks = np.sort(np.concatenate(drawn))
    return np.interp(marks[marks < arrived[-1]], arrived, moments)


def _integral(phases: Sequence[Phase]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Moments, and how many volumes are due by each on average; growing, so that it can be inverted."""
    moments, arrived = [np.zeros(1)], [np.zeros(1)]
    part = np.arange(1, _STEPS + 1) / _STEPS
    for phase in phases:
        low, high = phase.level
        moments.append(moments[-1][-1] + part * phase.seconds)
        arrived.append(arrived[-1][-1] + phase.seconds * (low * part + (high - low) * part**2 / 2))
    return np.concatenate(moments), np.concatenate(arrived)
