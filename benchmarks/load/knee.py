"""Where a server saturates: the highest load it carries before latency leaves the ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from load.records import Record
from load.summary import distribution
from load.workload import HOUR_S, Phase

FACTOR, KEEPS_UP = 3.0, 0.9
"""Beyond the knee, p95 is more than so many times the median at the lowest load, or fewer than this share of
the volumes are answered in time."""
_PARTS = 8
"""A ramp is cut into so many pieces, each a point of the curve."""
_FEWEST = 5


@dataclass(frozen=True)
class Point:
    """What a stretch of a run showed: volumes per hour that were due and that were answered; seconds."""

    offered: float
    answered: float
    p50_s: float
    p95_s: float
    count: int


def curve(phases: Sequence[Phase], starts: Sequence[float], records: Sequence[Record]) -> list[Point]:
    """A point for each phase without warm-up, several for a ramp; by offered load, which is what was due."""
    points = []
    for number, (phase, start) in enumerate(zip(phases, starts, strict=True)):
        if phase.warm_up:
            continue
        parts = _PARTS if phase.level[0] != phase.level[1] else 1
        edges = np.linspace(start, start + phase.seconds, parts + 1)
        mine = [record for record in records if record.phase == number]
        for low, high in pairwise(edges.tolist()):
            points.append(_point([r for r in mine if low <= r.due_s < high], records, low, high))
    return sorted((point for point in points if point is not None), key=lambda point: point.offered)


def _point(due: Sequence[Record], everything: Sequence[Record], low: float, high: float) -> Point | None:
    good = [record.latency_s for record in due if record.ok]
    if len(good) < _FEWEST:
        return None
    shift = min(record.latency_s for record in everything if record.ok)
    answered = sum(record.ok and low + shift <= record.done_s < high + shift for record in everything)
    scale = HOUR_S / (high - low)
    seen = distribution(good)
    return Point(len(due) * scale, answered * scale, seen["p50"], seen["p95"], len(due))


def find_knee(points: Sequence[Point]) -> dict[str, Any] | None:
    """The last point before the first one beyond the knee; None with fewer than three points.

    ``reached`` is False where even the highest load was carried: the knee lies beyond it.
    """
    if len(points) < 3:
        return None
    ground_s = points[0].p50_s
    beyond = [
        number
        for number, point in enumerate(points)
        if point.p95_s > FACTOR * ground_s or point.answered < KEEPS_UP * point.offered
    ]
    first = beyond[0] if beyond else len(points)
    knee = points[first - 1] if first else None
    return {"reached": bool(beyond), "ground_s": ground_s, **_told(knee, points, reached=bool(beyond))}


def _told(knee: Point | None, points: Sequence[Point], *, reached: bool) -> dict[str, Any]:
    rule = f"p95 at most {FACTOR:g} times the lowest load's median, {KEEPS_UP:.0%} answered in time"
    highest = max(point.answered for point in points)
    if knee is None:
        sentence = f"The knee lies below the lowest load ({rule})."
        return {"offered_per_hour": None, "highest_per_hour": highest, "sentence": sentence}
    where = f"{knee.offered:.0f} volumes per hour, p95 {knee.p95_s:.2f} s"
    sentence = f"Knee at {where} ({rule})." if reached else f"No knee up to {where} ({rule})."
    sentence += f" The most that was answered: {highest:.0f} per hour."
    return {"offered_per_hour": knee.offered, "highest_per_hour": highest, "sentence": sentence}


def points_as_json(points: Sequence[Point]) -> list[Mapping[str, float]]:
    """For the summary."""
    return [vars(point) for point in points]
