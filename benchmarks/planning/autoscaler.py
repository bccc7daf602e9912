"""The HorizontalPodAutoscaler that KEDA steers, by the chart's own values."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

_TOLERANCE = 0.1
"""Kubernetes leaves a fleet alone while each metric is within 10 % of its target."""


@dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """What the chart's `autoscaling` values and its `spineserve.scalingBehavior` say, in seconds and pods.

    Attributes
    ----------
    polling_s : between two decisions
    scrape_s : between two looks of Prometheus; a decision sees the last one
    studies_per_pod, queue_per_pod : targets of the two triggers
    calm_s : stabilisation window before a pod is taken away
    up_percent, up_pods, up_period_s : in each period it may grow by the larger of the two
    down_pods, down_period_s : in each period so many pods may go
    """

    min_replicas: int = 1
    max_replicas: int = 4
    polling_s: float = 15.0
    scrape_s: float = 15.0
    studies_per_pod: float = 2.0
    queue_per_pod: float = 4.0
    calm_s: float = 600.0
    up_percent: float = 100.0
    up_pods: int = 2
    up_period_s: float = 60.0
    down_pods: int = 1
    down_period_s: float = 120.0


class Autoscaler:
    """Decides how many replicas there should be. All moments are seconds on one clock, ascending."""

    def __init__(self, settings: ScalingSettings) -> None:
        self._settings = settings
        self._wishes: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()

    def decide(self, now_s: float, current: int, *, in_flight: float, waiting: float) -> int:
        """Replicas wanted from now on.

        Parameters
        ----------
        current : replicas there should be so far, those that still start included
        in_flight, waiting : studies in the whole fleet, and requests in its stages' queues
        """
        settings = self._settings
        wish = max(
            self._wish(in_flight, settings.studies_per_pod, current),
            self._wish(waiting, settings.queue_per_pod, current),
        )
        calm = self._stabilised(now_s, wish)
        wanted = min(wish, self._most(now_s, current)) if wish > current else current
        if calm < current:
            wanted = max(calm, self._fewest(now_s, current))
        wanted = min(max(wanted, settings.min_replicas), settings.max_replicas)
        if wanted != current:
            self._changes.append((now_s, wanted - current))
        return wanted

    def _wish(self, total: float, target: float, current: int) -> int:
        if abs(total / (target * current) - 1.0) <= _TOLERANCE:
            return current
        return math.ceil(total / target)

    def _stabilised(self, now_s: float, wish: int) -> int:
        """The largest wish of the window: a fleet shrinks only to what was enough all along."""
        self._wishes.append((now_s, wish))
        while self._wishes[0][0] <= now_s - self._settings.calm_s:
            self._wishes.popleft()
        return max(each for _, each in self._wishes)

    def _most(self, now_s: float, current: int) -> int:
        """What the scale-up policies allow, counted from the size at the period's start."""
        settings = self._settings
        start = current - sum(by for by in self._within(now_s, settings.up_period_s) if by > 0)
        return max(math.ceil(start * (1 + settings.up_percent / 100)), start + settings.up_pods)

    def _fewest(self, now_s: float, current: int) -> int:
        settings = self._settings
        start = current - sum(by for by in self._within(now_s, settings.down_period_s) if by < 0)
        return start - settings.down_pods

    def _within(self, now_s: float, period_s: float) -> list[int]:
        longest = max(self._settings.up_period_s, self._settings.down_period_s)
        while self._changes and self._changes[0][0] <= now_s - longest:
            self._changes.popleft()
        return [by for at, by in self._changes if at > now_s - period_s]
