"""From records and looks to figures: latency, rates, errors, and where the time went on the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from load import server_side
from load.arrivals import phase_starts, schedule
from load.records import Record
from load.server_side import Look
from load.workload import HOUR_S, Phase, Workload

PERCENTILES = (50, 90, 95, 99)
LATE_S, LATE_SHARE = 0.25, 0.01
"""A generator fell behind that sent more than this share of its volumes (and more than one) this much too
late, or not at all."""
SHORT_SHARE = 0.05
"""A phase fell short where more than this share of its volumes (and more than one) was not answered in it."""


@dataclass(frozen=True)
class Run:
    """All that is known of a run once it is over; the workload's levels are in volumes per second."""

    workload: Workload
    records: Sequence[Record]
    looks: Sequence[Look]
    begins_at: float

    def summary(self) -> dict[str, Any]:
        """Figures of every phase, of all that is judged, and of the generator."""
        phases = [self._phase(number) for number in range(len(self.workload.phases))]
        return {"phases": phases, "overall": self._overall(), "generator": self._generator()}

    def _intended(self) -> list[int] | None:
        """How many volumes each phase was to send; None in a closed loop."""
        if not self.workload.is_open:
            return None
        weights = [kind.weight for kind in self.workload.volumes]
        due = Counter(arrival.phase for arrival in schedule(self.workload, weights))
        return [due[number] for number in range(len(self.workload.phases))]

    def _phase(self, number: int) -> dict[str, Any]:
        phase = self.workload.phases[number]
        start_s = phase_starts(self.workload.phases)[number]
        return {
            "name": phase.name,
            "start_s": start_s,
            "seconds": phase.seconds,
            "callers": phase.callers,
            "warm_up": phase.warm_up,
            "saturates": phase.saturates,
            **self._figures([number]),
        }

    def _overall(self) -> dict[str, Any]:
        return self._figures(judged_phases(self.workload.phases))

    def _figures(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Of some phases together."""
        phases, starts = self.workload.phases, phase_starts(self.workload.phases)
        records = [record for record in self.records if record.phase in numbers]
        spans = [(starts[n], starts[n] + phases[n].seconds) for n in numbers]
        seconds, intended = sum(end - start for start, end in spans), self._intended()
        answered = self._answered_in(spans)
        due = None if intended is None else sum(intended[n] for n in numbers)
        return {
            "intended": due,
            "sent": len(records),
            "ok": sum(record.ok for record in records),
            "errors": dict(Counter(_failure(record) for record in records if not record.ok)),
            "error_rate": _share(sum(not record.ok for record in records), len(records)),
            "offered_per_hour": None if due is None else due / seconds * HOUR_S,
            "volumes_per_hour": answered / seconds * HOUR_S,
            "achieved": None if not due else min(1.0, answered / due),
            "fell_short": due is not None and due - answered > max(1.0, SHORT_SHARE * due),
            "latency_s": distribution([record.latency_s for record in records if record.ok]),
            "wire_s": distribution([record.wire_s for record in records if record.ok]),
            "kinds": self._kinds(records),
            "stages_s": _stages(records),
            "server": self._server(spans),
        }

    def _answered_in(self, spans: Sequence[tuple[float, float]]) -> int:
        """Good answers that came within the spans, each moved by the shortest latency of the run: what the
        server had no time to answer yet does not count against it, a growing backlog does."""
        good = [record for record in self.records if record.ok]
        shift = min((record.latency_s for record in good), default=0.0)
        return sum(start + shift <= record.done_s < end + shift for record in good for start, end in spans)

    def _kinds(self, records: Sequence[Record]) -> dict[str, Any]:
        kinds = dict.fromkeys(kind.name for kind in self.workload.volumes)
        return {
            name: distribution([each.latency_s for each in records if each.ok and each.kind == name])
            for name in kinds
        }

    def _server(self, spans: Sequence[tuple[float, float]]) -> dict[str, Any]:
        """Milliseconds per request in each model's queue and computing, and what was busy meanwhile."""
        start, end = self.begins_at + spans[0][0], self.begins_at + spans[-1][1]
        looks = server_side.between(self.looks, start, end)
        models = {
            name: {
                "requests": each.requests,
                "failed": each.failed,
                "queue_ms": 1000 * each.queue_s / each.requests,
                "compute_ms": 1000 * each.compute_s / each.requests,
                "batch": each.requests / max(each.executions, 1),
            }
            for name, each in sorted(server_side.spent(looks).items())
        }
        return {"models": models, "use": server_side.use(looks)}

    def _generator(self) -> dict[str, Any]:
        """Whether the volumes were sent when they were due."""
        intended = self._intended()
        due = len(self.records) if intended is None else sum(intended)
        late = sum(record.late_s > LATE_S for record in self.records)
        missing = max(0, due - len(self.records))
        return {
            "intended": due,
            "sent": len(self.records),
            "late": late,
            "late_s": distribution([record.late_s for record in self.records]),
            "fell_behind": late + missing > max(1.0, LATE_SHARE * due),
            "workers": len({record.worker for record in self.records}),
        }


def judged_phases(phases: Sequence[Phase]) -> list[int]:
    """Indices of the phases that are neither warm-up nor meant to saturate; if there are none, of all but
    the warm-up."""
    measured = [number for number, phase in enumerate(phases) if not phase.warm_up]
    return [number for number in measured if not phases[number].saturates] or measured


def distribution(values: Sequence[float]) -> dict[str, float]:
    """Count, mean, percentiles and largest of some seconds; only the count where there are none.

    A percentile is a value that was seen (the smallest that at least so many percent do not exceed), so that
    a p99 of few values is their largest and not an estimate beyond what was measured.
    """
    if not len(values):
        return {"count": 0}
    figures = {f"p{part}": float(np.percentile(values, part, method="inverted_cdf")) for part in PERCENTILES}
    return {"count": len(values), "mean": float(np.mean(values)), **figures, "max": float(np.max(values))}


def _stages(records: Sequence[Record]) -> dict[str, float]:
    """Mean seconds per stage, as the reports say."""
    good = [record.stages_s for record in records if record.ok and record.stages_s]
    names = dict.fromkeys(name for each in good for name in each)
    return {name: float(np.mean([each.get(name, 0.0) for each in good])) for name in names}


def _failure(record: Record) -> str:
    return f"{record.outcome} ({record.code})" if record.code else record.outcome


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
