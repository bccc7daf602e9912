"""The report: findings completed with the CNN's values, cross-checked, and held to its JSON Schema.

`report.schema.json` (JSON Schema 2020-12) beside this file is the contract with every reader of a report;
`SCHEMA_VERSION` counts up with it. Lengths are mm, points LPS mm, times seconds.

Every length stands there as geometry and as the CNN measured it, each with its standard error, and combined
(``reported``); `spinecore.calibration` has the errors and the rule. Where the networks have no table of
residuals the errors are null, the reported value is the geometric one, and `HEIGHT_BOUND_MM` and
`CANAL_BOUND_MM` decide what disagrees.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt

import spinecore
from spinecore.calibration import PLACES, Calibration, Combined, Spread, combine
from spinecore.csf import fluid_is_dark
from spinecore.document import Document
from spinecore.errors import SpineError

SCHEMA_VERSION = "1.2"
KIND = "spineserve.report"
DISCLAIMER = (
    "Research software, trained on synthetic phantoms. Not a medical device: not for diagnosis, treatment "
    "or any other clinical decision. Check every level name and measurement against the images."
)
CNN_HEIGHTS = PLACES  # order of the CNN's outputs
HEIGHT_BOUND_MM = 1.5  # without a table of residuals: farther apart in mean disc height is flagged
CANAL_BOUND_MM = 2.0  # and in canal AP diameter
HEIGHT_RANGE_MM = (0.0, 40.0)  # beyond these a CNN value is no measurement
CANAL_RANGE_MM = (0.0, 50.0)

Values = npt.NDArray[np.floating[Any]]


def build_report(
    findings: Document,
    *,
    heights_mm: Values,
    canal_ap_mm: Values,
    models: Mapping[str, Mapping[str, str]],
    calibration: Calibration | None = None,
    request_id: str = "",
    timings_s: Mapping[str, float] | None = None,
    segmentation: Mapping[str, Any] | None = None,
) -> Document:
    """The report (JSON-ready) of one volume.

    Parameters
    ----------
    findings : `Findings.document`; it is not changed
    heights_mm : (N, 4) of `CNN_HEIGHTS`, one row per disc of the findings; more rows are ignored
    canal_ap_mm : (N, 1) or (N,)
    models : name, version, sha256 and trained_on of "segmentation" and "measurement"
    calibration : the standard errors of these two networks; None: not known
    segmentation : mode, network and tiles (`contract.Run`); None: not told

    Raises SpineError where there are fewer rows than discs.
    """
    document = copy.deepcopy(findings)
    discs = document["discs"]
    canal = np.reshape(canal_ap_mm, -1)
    if len(heights_mm) < len(discs) or len(canal) < len(discs):
        raise SpineError(f"{len(discs)} discs were found, but {len(heights_mm)} measured by the CNN.")
    errors = _Errors(calibration, fluid_is_dark(discs))
    for disc, row, diameter in zip(discs, heights_mm, canal, strict=False):
        _add_cnn(disc, [float(v) for v in row], float(diameter))
        _complete_disc(disc, errors)
    for vertebra in document.get("vertebrae", ()):
        _add_error(vertebra, "canal_ap", errors.of("body_canal_ap", vertebra["name"]))
        _add_error(vertebra, "canal_min_ap", errors.of("body_canal_min_ap", vertebra["name"]))
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "disclaimer": DISCLAIMER,
        "software": {"name": "SpineServe", "version": spinecore.__version__},
        "models": {role: dict(model) for role, model in models.items()},
        "calibration": {"phantoms": calibration.phantoms, "discs": calibration.discs}
        if calibration
        else None,
        "segmentation": dict(segmentation) if segmentation else None,
        "request_id": request_id,
        **document,
        "timings_s": {stage: round(float(s), 4) for stage, s in (timings_s or {}).items()},
    }


def _add_cnn(disc: Document, row: list[float], diameter: float) -> None:
    """Fill in one disc's CNN values.

    Nothing is filled in for a disc that the field of view cuts: the CNN would be guessing too.
    """
    heights = {place: _plausible(mm, HEIGHT_RANGE_MM) for place, mm in zip(CNN_HEIGHTS, row, strict=True)}
    if disc["complete"] and None not in heights.values():
        disc["height_mm"]["cnn"] = heights
    if disc["canal_ap_mm"]["geometric"] is not None:
        disc["canal_ap_mm"]["cnn"] = _plausible(diameter, CANAL_RANGE_MM)


@dataclass(frozen=True)
class _Errors:
    """Spreads from the table, for an image with dark fluid or bright."""

    calibration: Calibration | None
    dark: bool

    def of(self, quantity: str, level: str | None, flags: Collection[str] = ()) -> Spread | None:
        if self.calibration is None:
            return None
        return self.calibration.spread(quantity, level=level, dark=self.dark, flags=flags)


def _complete_disc(disc: Document, errors: _Errors) -> None:
    """Combined values, standard errors, and flags where geometry and CNN disagree."""
    level, flags = disc["upper"]["name"], tuple(disc["flags"])
    heights, canal = disc["height_mm"], disc["canal_ap_mm"]
    spreads = {place: errors.of(f"height_{place}", level, flags) for place in PLACES}
    cnn = heights["cnn"] or dict.fromkeys(PLACES)
    combined = {p: combine(heights["geometric"][p], cnn[p], spreads[p]) for p in PLACES}
    heights["reported"] = _by_place({p: _mm(combined[p]) for p in PLACES})
    by_place = {p: _errors_entry(heights["geometric"][p], cnn[p], spreads[p], combined[p]) for p in PLACES}
    heights["standard_error_mm"] = {
        kind: _by_place({p: by_place[p][kind] for p in PLACES}) for kind in ("geometric", "cnn", "reported")
    }
    spread = errors.of("canal_ap", level, flags)
    both = combine(canal["geometric"], canal["cnn"], spread)
    canal["reported"] = _mm(both)
    canal["standard_error_mm"] = _errors_entry(canal["geometric"], canal["cnn"], spread, both)
    _add_error(disc, "canal_min_ap", errors.of("canal_min_ap", level, flags))
    mean = heights["geometric"]["mean"], cnn["mean"]
    if _disagree(*mean, spreads["mean"], combined["mean"], HEIGHT_BOUND_MM):
        disc["flags"].append("height_disagreement")
    if _disagree(canal["geometric"], canal["cnn"], spread, both, CANAL_BOUND_MM):
        disc["flags"].append("canal_disagreement")


def _by_place(values: dict[str, float | None]) -> dict[str, float | None] | None:
    """Heights by place, None if there is none at all."""
    return None if all(value is None for value in values.values()) else values


def _mm(combined: Combined | None) -> float | None:
    return None if combined is None else round(combined.mm, 2)


def _errors_entry(
    geometric: float | None, cnn: float | None, spread: Spread | None, combined: Combined | None
) -> dict[str, float | None]:
    """Standard errors of the values that are there."""
    return {
        "geometric": _error(spread.geometric) if spread and geometric is not None else None,
        "cnn": _error(spread.cnn) if spread and cnn is not None else None,
        "reported": _error(combined.standard_error_mm) if combined else None,
    }


def _error(mm: float | None) -> float | None:
    return None if mm is None else max(round(mm, 2), 0.01)


def _add_error(level: Document, key: str, spread: Spread | None) -> None:
    """The standard error of a length that only geometry measures, where the findings have it."""
    entry = level.get(f"{key}_mm")
    if entry is not None:
        has_both = entry["geometric"] is not None and spread is not None
        entry["standard_error_mm"] = _error(spread.geometric) if has_both and spread else None


def _disagree(
    geometric: float | None,
    cnn: float | None,
    spread: Spread | None,
    combined: Combined | None,
    bound_mm: float,
) -> bool:
    """By the standard errors, or by `bound_mm` where there are none."""
    if spread is not None and spread.cnn is not None:
        return combined is not None and combined.disagree
    return _apart(geometric, cnn, bound_mm)


def _plausible(mm: float, limits: tuple[float, float]) -> float | None:
    return round(mm, 2) if math.isfinite(mm) and limits[0] < mm < limits[1] else None


def _apart(first: float | None, second: float | None, bound_mm: float) -> bool:
    return first is not None and second is not None and abs(first - second) > bound_mm


@cache
def report_schema() -> Document:
    """The JSON Schema of the report."""
    text = files("spinecore").joinpath("report.schema.json").read_text(encoding="utf-8")
    schema: Document = json.loads(text)
    return schema


def schema_errors(report: Document) -> list[str]:
    """What is wrong with `report` by its schema, one sentence each with the place; empty if nothing."""
    validator = jsonschema.Draft202012Validator(report_schema())
    errors = sorted(validator.iter_errors(report), key=lambda error: error.json_path)
    return [f"{error.json_path}: {error.message}" for error in errors]
