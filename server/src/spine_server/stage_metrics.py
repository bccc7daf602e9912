"""What the Python stages count, on Triton's own metrics port beside Triton's metrics.

=================================================  ==========================================================
``spineserve_stage_requests_total{stage,outcome}``  requests answered; outcome ``ok`` or an error's code
``spineserve_stage_seconds_total{stage}``           seconds spent on them
``spineserve_volumes_total``                        reports written, the server's own canaries not counted
``spineserve_voxels_total``                         voxels of those volumes
``spineserve_levels_total{kind,named}``             vertebrae and discs found, ``named`` yes or no
``spineserve_disc_flags_total{level,flag}``         quality flags set on a disc's measurements
=================================================  ==========================================================

Every label has a small, fixed set of values: nothing of a caller's text becomes one. Imported only inside
Triton's Python stub. Where the server runs without metrics, counting does nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import triton_python_backend_utils as pb_utils

_DESCRIPTIONS = {
    "spineserve_stage_requests_total": "Requests a stage has answered, by outcome",
    "spineserve_stage_seconds_total": "Seconds a stage has spent on requests",
    "spineserve_volumes_total": "Volumes reported on",
    "spineserve_voxels_total": "Voxels of the volumes reported on",
    "spineserve_levels_total": "Vertebrae and discs found",
    "spineserve_disc_flags_total": "Quality flags set on discs",
}
_UNNAMED = "unnamed"
_ANY_FLAG = "cut_by_field_of_view"
_CANARY = "canary"
"""`spine_server.canary.REQUEST_ID`, written out: that module needs packages which a stage does not."""


class StageMetrics:
    """Counters of one stage. Several processes of a stage add to the same numbers."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._families: dict[str, Any] = {}
        self._counters: dict[tuple[str, tuple[tuple[str, str], ...]], Any] = {}

    def answered(self, outcome: str, seconds: float) -> None:
        """Count one request."""
        self._add("spineserve_stage_requests_total", 1.0, stage=self._stage, outcome=outcome)
        self._add("spineserve_stage_seconds_total", seconds, stage=self._stage)

    def reported(self, report: Mapping[str, Any]) -> None:
        """Count one report: its volume, its levels and the flags on its discs."""
        if report["request_id"] == _CANARY:
            return
        self._add("spineserve_volumes_total", 1.0)
        self._add("spineserve_voxels_total", float(math.prod(report["input"]["shape_zyx"])))
        for kind, found in (("vertebra", report["vertebrae"]), ("disc", report["discs"])):
            for each in found:
                self._add("spineserve_levels_total", 1.0, kind=kind, named="yes" if each["name"] else "no")
        # A counter shows up with its first flag: from the first report on, so that a rate can be taken.
        self._add("spineserve_disc_flags_total", 0.0, level=_UNNAMED, flag=_ANY_FLAG)
        for disc in report["discs"]:
            for flag in disc["flags"]:
                self._add("spineserve_disc_flags_total", 1.0, level=disc["name"] or _UNNAMED, flag=flag)

    def _add(self, name: str, amount: float, **labels: str) -> None:
        key = (name, tuple(sorted(labels.items())))
        if key not in self._counters:
            self._counters[key] = self._counter(name, labels)
        if self._counters[key] is not None:
            self._counters[key].increment(amount)

    def _counter(self, name: str, labels: dict[str, str]) -> Any:
        try:
            if name not in self._families:
                kind = pb_utils.MetricFamily.COUNTER
                self._families[name] = pb_utils.MetricFamily(
                    name=name, description=_DESCRIPTIONS[name], kind=kind
                )
            return self._families[name].Metric(labels=labels)
        except pb_utils.TritonModelException:  # the server's metrics are off
            return None
