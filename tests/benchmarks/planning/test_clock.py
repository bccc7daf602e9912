"""The clock against simpy, the library that others know: the same studies, moment for moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import simpy
from planning import run as run_module
from planning.autoscaler import ScalingSettings
from planning.clock import Clock
from planning.run import Loss, Run, simulate
from planning.topology import Pool, Topology
from small_sites import exponential, site_of, times_of

from spine_client import RetryPolicy


class SimpyClock(Clock):
    """The same calls, carried out by simpy's environment and its timeouts."""

    def __init__(self) -> None:
        self.env = simpy.Environment()

    @property
    def now(self) -> float:  # type: ignore[override]
        return float(self.env.now)

    def later(self, delay_s: float, do: Callable[..., None], *arguments: Any) -> None:
        simpy.Timeout(self.env, delay_s).callbacks.append(lambda _: do(*arguments))

    def step(self) -> None:
        self.env.step()

    def run(self, until: float | None = None) -> None:  # type: ignore[override]
        self.env.run(until)


def test_what_is_due_at_one_moment_comes_in_the_order_it_was_asked_for() -> None:
    clock, called = Clock(), list[tuple[str, float]]()

    def call(name: str) -> None:
        called.append((name, clock.now))

    clock.later(2.0, call, "b")
    clock.later(1.0, call, "a")
    clock.later(2.0, call, "c")
    clock.every(4.0, lambda: call("again"), first_s=3.0)
    clock.run(until=7.0)
    assert called == [("a", 1.0), ("b", 2.0), ("c", 2.0), ("again", 3.0)] and clock.now == 7.0
    clock.step()
    assert called[-1] == ("again", 7.0)


@pytest.mark.parametrize("case", ["fixed", "neighbours", "overloaded", "lost", "scaled"])
def test_a_day_is_the_same_by_simpy(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = (Pool(name="stage", instances=2, max_waiting=6, timeout_s=5.0, prefetched=1),)
    lengths = times_of(*exponential(1.0))
    retry = RetryPolicy(max_attempts=3)
    site = site_of(
        lengths, rate_per_s=1.5, day_s=600.0, topology=Topology(pools), retry=retry, timeout_s=20.0
    )
    more: dict[str, Any] = {}
    if case == "neighbours":
        site = replace(site, per_host=2, times=replace(lengths, neighbour_slowdown=1.2))
    if case == "overloaded":
        site = replace(site, studies=3.0 * 600.0)
    if case == "lost":
        more["loss"] = Loss(200.0)
    if case == "scaled":
        more["scaling"] = ScalingSettings(max_replicas=6, calm_s=60.0)

    def day() -> Run:
        return simulate(site, 2, seed=3, **more)

    ours = day()
    monkeypatch.setattr(run_module, "Clock", SimpyClock)
    theirs = day()
    assert len(ours.ends) > 700 and (case != "overloaded" or not ours.answered.all())
    assert np.array_equal(ours.latency_s, theirs.latency_s) and np.array_equal(ours.ends, theirs.ends)
    assert np.array_equal(ours.attempts, theirs.attempts)
    assert (ours.history, ours.serving) == (theirs.history, theirs.serving)
    assert (ours.replica_hours, ours.busy_share) == (theirs.replica_hours, theirs.busy_share)
