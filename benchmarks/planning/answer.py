"""Answers: how many replicas, what they cost, what a lost node does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from planning.arrivals import DayCurve
from planning.autoscaler import ScalingSettings
from planning.run import Loss, Run, Site, simulate

MINUTE_S = 60.0
GOOD_MINUTES = 5
"""So many good minutes in a row, and a service has recovered."""
SEARCH_DETAIL = 6_000
MOST_REPLICAS = 100_000
FEWEST_RUNS = 3
HOPELESS = 3.0
"""While a number is looked for, a first run so many times worse than the SLO decides alone."""
PRECISE = 0.1
"""Runs are enough when the half-width of their p95 is so small a part of it, and they leave no doubt."""
LEAD_S, AFTERMATH_S = 900.0, 3600.0
"""Simulated before a loss' hour begins, and after the loss."""


@dataclass(frozen=True)
class Slo:
    """`p95_s`: latency of the answered; `failed`: share that gets no answer after all attempts. Both must
    hold in the busiest part of the day; where a number of replicas is looked for, with the upper ends of
    their confidence intervals."""

    p95_s: float
    failed: float = 0.001


@dataclass(frozen=True)
class Estimate:
    """Mean of several runs, and the half-width of its 95 % confidence interval (Student's t)."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Of one value the half-width is infinite."""
        mean, count = float(np.mean(values)), len(values)
        if count < 2 or not math.isfinite(mean):
            return cls(mean, math.inf)
        spread = float(np.std(values, ddof=1)) / math.sqrt(count)
        return cls(mean, float(stats.t.ppf(0.975, count - 1)) * spread)

    @property
    def upper(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half

    def clear_of(self, limit: float) -> bool:
        """Whether `limit` is outside the interval."""
        return not math.isfinite(self.mean) or abs(self.mean - limit) > self.half


@dataclass(frozen=True)
class Damage:
    """What a lost node did to the studies that came in the hour after.

    Attributes
    ----------
    failed, late : studies of the whole fleet without an answer, and with one later than the SLO's p95
    recovered_s : from the loss until five minutes in a row meet the SLO again; infinite: not within that hour
    """

    failed: Estimate
    late: Estimate
    recovered_s: Estimate


@dataclass(frozen=True)
class Answer:
    """How a fleet does.

    Attributes
    ----------
    replicas : there from the start; the autoscaler's smallest number where it scales
    most, least : replicas there were
    p50_s, p95_s : latency over the whole day; peak_p95_s, peak_failed: in its busiest part
    per_hour : answers an hour in the busiest part
    busy : share of the cores' time over the day, starting and draining replicas included
    cost_per_1000 : in the price's currency; None without a price
    damage : by a lost node; then what is said of the whole day is that of the fleet without the loss, what is
        said of the busiest part is with it
    """

    name: str
    replicas: int
    least: int
    most: int
    p50_s: Estimate
    p95_s: Estimate
    peak_p95_s: Estimate
    peak_failed: Estimate
    per_hour: Estimate
    busy: Estimate
    replica_hours: Estimate
    cost_per_1000: Estimate | None
    meets: bool
    damage: Damage | None = None


def around_peak(site: Site) -> Site:
    """The busiest part of the day alone, with the part before it."""
    weights = site.curve.weights
    busiest, parts = int(np.argmax(weights)), len(weights)
    first = max(0, busiest - 1)
    chosen = weights[first : busiest + 1]
    curve = DayCurve(chosen, site.curve.day_s * len(chosen) / parts)
    return replace(
        site,
        curve=curve,
        studies=site.studies * sum(chosen) / sum(weights),
        detail=min(site.detail, SEARCH_DETAIL),
    )


def smallest(site: Site, slo: Slo, *, seeds: Sequence[int], loss: int = 0) -> int:
    """The smallest number of replicas that meets `slo`, even when `loss` of them vanish at the peak.

    Raises
    ------
    ValueError
        No number does: one study alone already takes longer.
    """
    peak = around_peak(site)
    if site.times.mean_s > slo.p95_s:
        raise ValueError(
            f"A study alone takes {site.times.mean_s:.2f} s on average: "
            f"no fleet answers 95 % within {slo.p95_s:g} s."
        )

    def enough(count: int) -> bool:
        lost = Loss(_moment(peak.curve), min(loss, count)) if loss else None
        runs = [simulate(peak, count, seed=seeds[0], loss=lost)]
        if _hopeless(*_at_peak(runs, peak.curve), slo):
            return False
        runs += [simulate(peak, count, seed=seed, loss=lost) for seed in seeds[1:]]
        p95, failed = _at_peak(runs, peak.curve)
        return p95.upper <= slo.p95_s and failed.upper <= slo.failed

    return _first(enough, start=max(1, loss, math.floor(site.busy_at_peak / 2)))


def _hopeless(p95: Estimate, failed: Estimate, slo: Slo) -> bool:
    """Whether one run is so far from the SLO that no other need be asked."""
    return p95.mean > HOPELESS * slo.p95_s or failed.mean > HOPELESS * slo.failed


def _first(enough: Callable[[int], bool], *, start: int) -> int:
    """The smallest number that is enough, by doubling and halving."""
    low, high = 0, start
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST_REPLICAS:
            raise ValueError(f"Not even {MOST_REPLICAS} replicas meet the SLO.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _at_peak(runs: Sequence[Run], curve: DayCurve) -> tuple[Estimate, Estimate]:
    inside = [run.between(*curve.peak) for run in runs]
    p95 = Estimate.of([run.percentile(95, chosen) for run, chosen in zip(runs, inside, strict=True)])
    return p95, Estimate.of([run.failed_share(chosen) for run, chosen in zip(runs, inside, strict=True)])


def _moment(curve: DayCurve) -> float:
    """When nodes are lost: a quarter into the busiest part."""
    begin, end = curve.peak
    return begin + (end - begin) / 4


def assess(
    name: str,
    site: Site,
    replicas: int,
    slo: Slo,
    *,
    seeds: Sequence[int],
    price: float | None = None,
    scaling: ScalingSettings | None = None,
) -> tuple[Answer, list[Run]]:
    """How a fleet does on the whole day; `price`: a replica-hour's."""
    runs = _repeated(
        lambda seed: simulate(site, replicas, seed=seed, scaling=scaling), seeds, site.curve, slo
    )
    p95, failed = _at_peak(runs, site.curve)
    answer = Answer(
        name=name,
        replicas=replicas,
        least=min(count for run in runs for _, count in run.history),
        most=max(count for run in runs for _, count in run.history),
        p50_s=Estimate.of([run.percentile(50) for run in runs]),
        p95_s=Estimate.of([run.percentile(95) for run in runs]),
        peak_p95_s=p95,
        peak_failed=failed,
        per_hour=Estimate.of([_per_hour(run, site.curve) for run in runs]),
        busy=Estimate.of([run.busy_share for run in runs]),
        replica_hours=Estimate.of([run.replica_hours for run in runs]),
        cost_per_1000=None if price is None else Estimate.of([_cost(run, price) for run in runs]),
        meets=p95.mean <= slo.p95_s and failed.mean <= slo.failed,
    )
    return answer, runs


def with_loss(
    unharmed: tuple[Answer, list[Run]],
    site: Site,
    slo: Slo,
    *,
    seeds: Sequence[int],
    loss: int,
    scaling: ScalingSettings | None = None,
) -> tuple[Answer, list[Run]]:
    """What becomes of a fleet that `assess` knows when `loss` of its replicas vanish at the peak.

    Only the time around the loss is simulated; an autoscaled fleet begins it with as many replicas as it had.
    """
    before, runs_before = unharmed
    begin_s = max(0.0, site.curve.peak[0] - LEAD_S)
    end_s = min(site.curve.day_s, max(_moment(site.curve) + AFTERMATH_S, site.curve.peak[1]))
    count = round(float(np.mean([_wanted_at(run, begin_s) for run in runs_before])))
    lost = Loss(_moment(site.curve), min(loss, count))
    part, then = site.between(begin_s, end_s), replace(lost, at_s=lost.at_s - begin_s)

    def run_of(seed: int) -> Run:
        return simulate(part, count, seed=seed, scaling=scaling, loss=then).shifted(begin_s)

    runs = _repeated(run_of, seeds, site.curve, slo)
    p95, failed = _at_peak(runs, site.curve)
    harmed = replace(
        before,
        name=f"{before.name}, {loss} lost",
        most=max(before.most, *(wanted for run in runs for _, wanted in run.history)),
        peak_p95_s=p95,
        peak_failed=failed,
        per_hour=Estimate.of([_per_hour(run, site.curve) for run in runs]),
        meets=p95.mean <= slo.p95_s and failed.mean <= slo.failed,
        damage=damage(runs, lost, slo),
    )
    return harmed, runs


def _wanted_at(run: Run, at_s: float) -> int:
    return [count for since_s, count in run.history if since_s <= at_s][-1]


def _repeated(run_of: Callable[[int], Run], seeds: Sequence[int], curve: DayCurve, slo: Slo) -> list[Run]:
    """Runs, at most one for each seed, until they tell precisely enough what happens at the peak."""
    runs: list[Run] = []
    for seed in seeds:
        runs.append(run_of(seed))
        p95, failed = _at_peak(runs, curve)
        precise = p95.half <= PRECISE * p95.mean or not math.isfinite(p95.mean)
        if len(runs) >= FEWEST_RUNS and precise and p95.clear_of(slo.p95_s) and failed.clear_of(slo.failed):
            break
    return runs


def _per_hour(run: Run, curve: DayCurve) -> float:
    begin, end = curve.peak
    over = run.arrived_s + run.latency_s
    return float(np.sum(run.answered & (over >= begin) & (over < end)) * run.every / (end - begin) * 3600.0)


def _cost(run: Run, price: float) -> float:
    return price * run.replica_hours / (float(run.answered.sum()) * run.every) * 1000.0


def damage(runs: Sequence[Run], loss: Loss, slo: Slo) -> Damage:
    """What the studies that came in the hour after `loss` suffered."""
    failed, late, recovered = [], [], []
    for run in runs:
        after = run.between(loss.at_s, loss.at_s + 3600.0)
        each = min(run.every, float(loss.count))  # a loss of less than one simulated replica is one
        failed.append(float(np.sum(after & ~run.answered)) * each)
        late.append(float(np.sum(after & run.answered & (run.latency_s > slo.p95_s))) * each)
        recovered.append(recovery_s(run, loss.at_s, slo))
    return Damage(Estimate.of(failed), Estimate.of(late), Estimate.of(recovered))


def recovery_s(run: Run, at_s: float, slo: Slo) -> float:
    """Seconds from `at_s` until five minutes in a row, each for itself, meet the SLO again."""
    good = 0
    for minute in range(int((run.arrived_s[-1] - at_s) / MINUTE_S) if len(run.arrived_s) else 0):
        begin = at_s + minute * MINUTE_S
        among = run.between(begin, begin + MINUTE_S)
        fine = not among.any() or (
            run.failed_share(among) <= slo.failed and run.percentile(95, among) <= slo.p95_s
        )
        good = good + 1 if fine else 0
        if good == GOOD_MINUTES:
            return (minute + 1 - GOOD_MINUTES) * MINUTE_S
    return math.inf
