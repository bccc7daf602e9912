"""What the chart's values say about a fleet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from planning.autoscaler import ScalingSettings

DEFAULTS = Path(__file__).parents[2] / "helm" / "spineserve" / "values.yaml"


def read_values(path: Path | None = None) -> dict[str, Any]:
    """The chart's defaults, overridden by the values file `path` as Helm does."""
    values: dict[str, Any] = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    if path is None:
        return values
    return _merged(values, yaml.safe_load(path.read_text(encoding="utf-8")) or {})


def _merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(values[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(values.get(key), dict)
    }
    return {**values, **over, **both}


def scaling_settings(values: Mapping[str, Any], *, min_replicas: int, max_replicas: int) -> ScalingSettings:
    """How the chart lets KEDA scale; the numbers of replicas are the planner's to choose."""
    scaling, longest_s = values["autoscaling"], float(values["drain"]["longestStudySeconds"])
    return ScalingSettings(
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        polling_s=float(scaling["keda"]["pollingInterval"]),
        scrape_s=float(str(values["monitoring"]["interval"]).removesuffix("s")),
        studies_per_pod=float(scaling["studiesPerPod"]),
        queue_per_pod=float(scaling["queuePerPod"]),
        calm_s=float(scaling["scaleDownSeconds"]),
        down_period_s=min(max(60.0, longest_s), 1800.0),
    )


def gate_limit(values: Mapping[str, Any]) -> int | None:
    """Studies at once that the gate lets through to a replica; None without a gate."""
    gate = values["gate"]
    return int(gate["maxConcurrentRequests"]) if gate["enabled"] else None
