"""When studies arrive: a day curve, and a Poisson process that follows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from load.workload import read_workload

Times = npt.NDArray[np.float64]
_BLOCK = 4096


@dataclass(frozen=True)
class DayCurve:
    """How a day's studies are spread over it.

    Attributes
    ----------
    weights : one for each part of the day, all parts of the same length; only their proportions count. Within
        a part the rate is constant
    day_s : length of the day
    """

    weights: tuple[float, ...] = (1.0,)
    day_s: float = 86_400.0

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) < 0 or sum(self.weights) <= 0 or not self.day_s > 0:
            raise ValueError("A day curve needs weights of 0 or more, at least one of them above 0.")

    @property
    def edges_s(self) -> Times:
        """Where its parts begin, and where the day ends."""
        return np.linspace(0.0, self.day_s, len(self.weights) + 1)

    @property
    def peak(self) -> tuple[float, float]:
        """Begin and end in seconds of its busiest part; the first of equals."""
        busiest, edges = int(np.argmax(self.weights)), self.edges_s
        return float(edges[busiest]), float(edges[busiest + 1])

    def peak_rate(self, studies: float) -> float:
        """Studies per second in the busiest part when `studies` come in a day."""
        return studies * max(self.weights) / sum(self.weights) / (self.day_s / len(self.weights))

    def between(self, begin_s: float, end_s: float, *, parts: int = 90) -> tuple[DayCurve, float]:
        """The curve from one moment to another, in parts of its own, and the share of the studies in it."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.weights)]) / sum(self.weights)
        edges = np.linspace(begin_s, end_s, parts + 1)
        weights = np.diff(np.interp(edges, self.edges_s, cumulative))
        return DayCurve(tuple(weights.tolist()), end_s - begin_s), float(weights.sum())

    def arrivals(self, studies: float, rng: np.random.Generator, *, every: float = 1.0) -> Times:
        """Moments in seconds, ascending, of a Poisson process with a mean of `studies` in the day.

        With `every` k only each k-th of them, as replicas see that are every k-th of a fleet behind round
        robin: the gaps of a unit process are then Gamma(k) distributed. k need not be whole.
        """
        if not every >= 1.0:
            raise ValueError(f"every must be at least 1, not {every}")
        cumulative = np.concatenate([[0.0], np.cumsum(self.weights)]) * (studies / sum(self.weights))
        unit = _unit_process(studies, every, rng)
        return np.asarray(np.interp(unit, cumulative, self.edges_s), np.float64)


def _unit_process(until: float, every: float, rng: np.random.Generator) -> Times:
    """Each `every`-th point of a Poisson process of rate 1 in (0, `until`); the first at a random phase."""
    gathered, last = [], -every * rng.uniform()
    while last < until:
        gathered.append(last + np.cumsum(rng.gamma(every, size=_BLOCK)))
        last = float(gathered[-1][-1])
    points = np.concatenate(gathered)
    inside: Times = points[(points > 0) & (points < until)]
    return inside


def read_day(workload: Path) -> tuple[DayCurve, float]:
    """The curve of a workload file's `day`, and its studies in a day.

    Raises
    ------
    ValueError
        The file has no `day`, or is no workload.
    """
    read_workload(workload)  # all the checks of the file
    day = yaml.safe_load(workload.read_text(encoding="utf-8")).get("day")
    if day is None:
        raise ValueError(f"{workload.name} has phases and no day: there is no day to plan for.")
    return DayCurve(tuple(float(share) for share in day["hours"])), float(day["studies"])
