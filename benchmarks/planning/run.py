"""One run of the simulation, and what is read from several."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from planning.arrivals import DayCurve, Times
from planning.autoscaler import Autoscaler, ScalingSettings
from planning.clock import Clock
from planning.fleet import Delays, Fleet
from planning.replica import End, Ended, Host, Replica, Study, Way
from planning.service import ServiceTimes, Ways
from planning.topology import Topology
from spine_client import RetryPolicy
from spine_client.config import DEFAULT_TIMEOUT_S

SMALLEST_FLEET = 8
"""Of an autoscaled fleet at least so many replicas are simulated at the peak, or rounding would show."""
FINEST_LOSS = 20
"""Of a smaller loss one in so many is simulated."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """What is simulated besides the number of replicas.

    Attributes
    ----------
    times, topology : of one replica
    curve, studies : how many studies come in a day, and when
    max_in_flight : the gate's limit of a replica; None: no gate
    timeout_s, retry : of the callers
    per_host : replicas on one machine, which slow one another down as was measured
    detail : studies that one run simulates at most; of a busier fleet every k-th replica and every k-th study
    """

    times: ServiceTimes
    topology: Topology
    curve: DayCurve
    studies: float
    delays: Delays = field(default_factory=Delays)
    max_in_flight: int | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    per_host: int = 1
    detail: int = 20_000

    @cached_property
    def ways(self) -> Ways:
        """The ways that its studies take."""
        return Ways(self.times, self.topology)

    @property
    def busy_at_peak(self) -> float:
        """Replicas that the busiest part of the day would keep busy if they took one study at a time."""
        return self.curve.peak_rate(self.studies) * self.times.mean_s

    def between(self, begin_s: float, end_s: float) -> Site:
        """The same site for a part of the day, whose clock begins at 0 again."""
        curve, share = self.curve.between(begin_s, end_s)
        return replace(self, curve=curve, studies=self.studies * share)


@dataclass(frozen=True)
class Loss:
    """`count` replicas vanish at `at_s`."""

    at_s: float
    count: int = 1


@dataclass(frozen=True, eq=False)
class Run:
    """What came out.

    Attributes
    ----------
    arrived_s, latency_s : of each study simulated, by arrival; the latency counts retries
    ends, attempts : how each ended, and how often it was tried
    history : moments and the number of replicas wanted from then on, of the whole fleet
    serving : moments and the number of replicas that could answer, of the whole fleet
    replica_hours, busy_share : of the whole fleet; busy cores' share of all
    every : each study stands for so many
    """

    arrived_s: Times
    latency_s: Times
    ends: npt.NDArray[np.int64]
    attempts: npt.NDArray[np.int64]
    history: list[tuple[float, int]]
    serving: list[tuple[float, float]]
    replica_hours: float
    busy_share: float
    every: float

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Which were answered."""
        which: npt.NDArray[np.bool_] = self.ends == End.ANSWERED
        return which

    def between(self, begin_s: float, end_s: float) -> npt.NDArray[np.bool_]:
        """Which arrived in [begin, end)."""
        inside: npt.NDArray[np.bool_] = (self.arrived_s >= begin_s) & (self.arrived_s < end_s)
        return inside

    def shifted(self, by_s: float) -> Run:
        """The same, with all moments `by_s` later."""
        return replace(
            self,
            arrived_s=self.arrived_s + by_s,
            history=[(at_s + by_s, count) for at_s, count in self.history],
            serving=[(at_s + by_s, count) for at_s, count in self.serving],
        )

    def percentile(self, percent: float, among: npt.NDArray[np.bool_] | None = None) -> float:
        """Latency in s of those answered; infinite where none was."""
        chosen = self.answered if among is None else self.answered & among
        return float(np.percentile(self.latency_s[chosen], percent)) if chosen.any() else float("inf")

    def failed_share(self, among: npt.NDArray[np.bool_] | None = None) -> float:
        """Of the studies, how many got no answer after all attempts."""
        ends = self.ends if among is None else self.ends[among]
        return float(np.mean(ends != End.ANSWERED)) if len(ends) else 0.0


def simulate(
    site: Site,
    replicas: int,
    *,
    seed: int,
    scaling: ScalingSettings | None = None,
    loss: Loss | None = None,
    schedule: tuple[Times, npt.NDArray[np.int64]] | None = None,
) -> Run:
    """One day, of `replicas` that are there from the start.

    Parameters
    ----------
    scaling : lets the number change; None keeps it
    schedule : moments of arrival and kinds of volume, in place of the curve's own

    Notes
    -----
    With round robin, each k-th replica of a fleet gets each k-th study: those are simulated alone, and see
    just what they would see in the whole fleet. What is approximate then: a retry stays among them, and an
    autoscaled fleet's size is rounded to multiples of k. Where fewer than k are lost, one of those that are
    simulated stands for them, and most of what would have been its turn goes to those that are not.
    """
    rng = np.random.default_rng(seed)
    simulated, every = _thinned(site, replicas, scaling, loss)
    if schedule is None:
        arrivals, volumes = site.curve.arrivals(site.studies, rng, every=every), None
    else:
        (arrivals, volumes), simulated, every = schedule, replicas, 1.0
    ways = site.ways.draw(len(arrivals), rng, volumes=volumes)
    taken_over = 1.0 if loss is None else _taken_over(loss.count, every, replicas, simulated)
    day = _Day(site, simulated, every, rng, arrivals, ways, taken_over=taken_over)
    if scaling is not None:
        day.scale(Autoscaler(scaling), scaling, replicas)
    if loss is not None:
        day.lose(loss)
    return day.run()


def _thinned(
    site: Site, replicas: int, scaling: ScalingSettings | None, loss: Loss | None
) -> tuple[int, float]:
    """How many replicas are simulated, and for how many each stands."""
    every = max(1.0, site.studies / site.detail)
    if loss is not None:
        every = min(every, max(loss.count, replicas / FINEST_LOSS, site.busy_at_peak / FINEST_LOSS))
    if scaling is None:
        simulated = max(1, min(replicas, round(replicas / every)))
        return simulated, replicas / simulated
    every = max(1.0, min(every, site.busy_at_peak / SMALLEST_FLEET))
    return max(1, round(replicas / every)), every


def _taken_over(lost: int, every: float, replicas: int, simulated: int) -> float:
    """Of the turns of the one that stands for `lost`, so many make the others as busy as the fleet's."""
    if every <= lost or replicas <= lost:
        return 1.0
    return min(1.0, (simulated - 1) * lost / (replicas - lost))


class _Day:
    """The parts of one run, wired together."""

    def __init__(
        self,
        site: Site,
        replicas: int,
        every: float,
        rng: np.random.Generator,
        arrivals: Times,
        ways: list[Way],
        *,
        taken_over: float,
    ) -> None:
        self._clock, self._site, self._every = Clock(), site, every
        self._arrivals, self._ways = arrivals.tolist(), ways
        count = len(arrivals)
        self._latency, self._ends = [math.nan] * count, [-1] * count  # quicker than arrays, one at a time
        self._attempts, self._left = [0] * count, count
        self._built, self._host = 0, Host()
        self._fleet = Fleet(
            self._clock,
            self._replica,
            replicas,
            delays=site.delays,
            retry=site.retry,
            rng=rng,
            ended=self._ended,
            taken_over=taken_over,
        )
        self._history = [(0.0, round(replicas * every))]
        self._serving: list[tuple[float, float]] = []

    def scale(self, autoscaler: Autoscaler, settings: ScalingSettings, replicas: int) -> None:
        """Let the number of replicas follow the load."""
        self._seen, self._wanted = (0.0, 0.0), replicas
        self._clock.every(settings.scrape_s, self._scrape, first_s=settings.scrape_s)  # before a decision
        self._clock.every(settings.polling_s, partial(self._decide, autoscaler), first_s=settings.polling_s)

    def lose(self, loss: Loss) -> None:
        """Have a node lost."""
        count = max(1, round(loss.count / self._every))
        self._clock.later(loss.at_s, self._fleet.lose, count)

    def run(self) -> Run:
        """Until the day is over and the last study has ended."""
        self._expect(0)
        self._clock.every(self._site.curve.day_s / 1440, self._watch)
        self._clock.run(until=self._site.curve.day_s)
        while self._left:
            self._clock.step()
        seconds = self._fleet.replica_seconds()
        cores = self._site.times.cores
        ends = np.array(self._ends, np.int64)
        here = ends != End.ELSEWHERE
        return Run(
            arrived_s=np.array(self._arrivals)[here],
            latency_s=np.array(self._latency)[here],
            ends=ends[here],
            attempts=np.array(self._attempts, np.int64)[here],
            history=self._history,
            serving=self._serving,
            replica_hours=seconds * self._every / 3600.0,
            busy_share=self._fleet.busy_seconds() / (seconds * cores) if seconds else 0.0,
            every=self._every,
        )

    def _replica(self, ended: Ended) -> Replica:
        site = self._site
        if self._built % site.per_host == 0:
            self._host = Host(site.times.neighbour_slowdown if site.per_host > 1 else 1.0)
        self._built += 1
        return Replica(
            self._clock,
            site.topology.pools,
            cores=site.times.cores,
            ended=ended,
            host=self._host if site.per_host > 1 else None,
            max_in_flight=site.max_in_flight,
        )

    def _expect(self, number: int) -> None:
        """The study `number` comes when it is due."""
        if number < len(self._arrivals):
            self._clock.later(self._arrivals[number] - self._clock.now, self._arrive, number)

    def _arrive(self, number: int) -> None:
        at_s = self._arrivals[number]
        self._expect(number + 1)
        self._fleet.send(Study(number, self._ways[number], at_s, at_s + self._site.timeout_s))

    def _ended(self, study: Study, end: End) -> None:
        if self._ends[study.number] != -1:
            raise AssertionError(f"Study {study.number} ended twice.")
        self._ends[study.number], self._attempts[study.number] = end, study.attempts
        self._latency[study.number] = self._clock.now - study.arrived_s
        self._left -= 1

    def _watch(self) -> None:
        self._serving.append((self._clock.now, self._fleet.serving * self._every))

    def _scrape(self) -> None:
        self._seen = (self._fleet.in_flight * self._every, self._fleet.waiting * self._every)

    def _decide(self, autoscaler: Autoscaler) -> None:
        in_flight, waiting = self._seen
        wanted = autoscaler.decide(self._clock.now, self._wanted, in_flight=in_flight, waiting=waiting)
        if wanted != self._wanted:
            self._history.append((self._clock.now, wanted))
            self._fleet.resize(max(1, round(wanted / self._every)))
        self._wanted = wanted
