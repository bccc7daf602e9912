"""Service level objectives: a file of rules turns a run into pass or fail.

A rule names phases, each of which must keep it; without ``phases`` it is about all that is judged together.

======================  ==========================================================
``p50_s`` … ``p99_s``    latency may be at most this
``error_rate``           share of volumes without an answer, at most
``achieved``             share of the intended volumes that were answered in time, at least
``volumes_per_hour``     at least
======================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load.workload import WorkloadError, read_yaml

_AT_MOST = ("p50_s", "p90_s", "p95_s", "p99_s", "error_rate")
_AT_LEAST = ("achieved", "volumes_per_hour")
_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["rules"],
    "properties": {
        "rules": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "properties": {
                    "phases": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                    **{name: {"type": "number", "minimum": 0} for name in (*_AT_MOST, *_AT_LEAST)},
                },
            },
        }
    },
}


@dataclass(frozen=True)
class Rule:
    """Bounds on the figures of some phases; of all that is judged where `phases` is empty."""

    bounds: Mapping[str, float]
    phases: tuple[str, ...] = ()


DEFAULT = (Rule({"error_rate": 0.01, "achieved": 0.95}),)
"""Where no file is given: the server answers, and keeps up."""


def read_slo(path: Path, phases: Sequence[str]) -> tuple[Rule, ...]:
    """Read a file of rules for a workload with these phases. Raises `WorkloadError`."""
    rules = []
    for number, content in enumerate(read_yaml(path, _SCHEMA)["rules"]):
        named = tuple(content.pop("phases", ()))
        if unknown := [name for name in named if name not in phases]:
            raise WorkloadError(f"{path.name}: rules[{number}]: the workload has no phase {unknown[0]!r}")
        if not content:
            raise WorkloadError(f"{path.name}: rules[{number}]: there is no bound in this rule")
        rules.append(Rule(content, named))
    return tuple(rules)


def judge(rules: Sequence[Rule], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One verdict for each bound and what it is about."""
    verdicts = []
    for rule in rules:
        about = {phase["name"]: phase for phase in summary["phases"] if phase["name"] in rule.phases}
        for where, figures in (about or {"all that is judged": summary["overall"]}).items():
            verdicts += [_verdict(where, name, bound, figures) for name, bound in rule.bounds.items()]
    return verdicts


def _verdict(where: str, name: str, bound: float, figures: Mapping[str, Any]) -> dict[str, Any]:
    value = figures["latency_s"].get(name.removesuffix("_s")) if name.startswith("p") else figures[name]
    if value is None:  # nothing was answered; or, of `achieved`, nothing was intended: a closed loop
        held = name == "achieved" and figures["intended"] is None
    else:
        held = value <= bound if name in _AT_MOST else value >= bound
    sign = "≤" if name in _AT_MOST else "≥"
    return {"about": where, "objective": f"{name} {sign} {bound:g}", "value": value, "held": held}
