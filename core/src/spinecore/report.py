"""The report: findings completed with the CNN's values, cross-checked, and held to its JSON Schema.

`report.schema.json` (JSON Schema 2020-12) beside this file is the contract with every reader of a report;
`SCHEMA_VERSION` counts up with it. Lengths are mm, points LPS mm, times seconds.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt

import spinecore
from spinecore.errors import SpineError
from spinecore.findings import Document

SCHEMA_VERSION = "1.1"
KIND = "spineserve.report"
DISCLAIMER = (
    "Research software, trained on synthetic phantoms. Not a medical device: not for diagnosis, treatment "
    "or any other clinical decision. Check every level name and measurement against the images."
)
CNN_HEIGHTS = ("anterior", "middle", "posterior", "mean")  # order of the CNN's outputs
HEIGHT_BOUND_MM = 1.5  # CNN and geometry farther apart than this in mean disc height are flagged
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
    request_id: str = "",
    timings_s: Mapping[str, float] | None = None,
) -> Document:
    """The report (JSON-ready) of one volume.

    Parameters
    ----------
    findings : `Findings.document`; it is not changed
    heights_mm : (N, 4) of `CNN_HEIGHTS`, one row per disc of the findings; more rows are ignored
    canal_ap_mm : (N, 1) or (N,)
    models : name, version, sha256 and trained_on of "segmentation" and "measurement"

    Raises SpineError where there are fewer rows than discs.
    """
    document = copy.deepcopy(findings)
    discs = document["discs"]
    canal = np.reshape(canal_ap_mm, -1)
    if len(heights_mm) < len(discs) or len(canal) < len(discs):
        raise SpineError(f"{len(discs)} discs were found, but {len(heights_mm)} measured by the CNN.")
    for disc, row, diameter in zip(discs, heights_mm, canal, strict=False):
        _add_cnn(disc, [float(v) for v in row], float(diameter))
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "disclaimer": DISCLAIMER,
        "software": {"name": "SpineServe", "version": spinecore.__version__},
        "models": {role: dict(model) for role, model in models.items()},
        "request_id": request_id,
        **document,
        "timings_s": {stage: round(float(s), 4) for stage, s in (timings_s or {}).items()},
    }


def _add_cnn(disc: Document, row: list[float], diameter: float) -> None:
    """Fill in one disc's CNN values and flag where they disagree with the geometric ones.

    Nothing is filled in for a disc that the field of view cuts: the CNN would be guessing too.
    """
    heights = {place: _plausible(mm, HEIGHT_RANGE_MM) for place, mm in zip(CNN_HEIGHTS, row, strict=True)}
    if disc["complete"] and None not in heights.values():
        disc["height_mm"]["cnn"] = heights
        if _apart(disc["height_mm"]["geometric"]["mean"], heights["mean"], HEIGHT_BOUND_MM):
            disc["flags"].append("height_disagreement")
    if disc["canal_ap_mm"]["geometric"] is not None:
        disc["canal_ap_mm"]["cnn"] = _plausible(diameter, CANAL_RANGE_MM)
        if _apart(disc["canal_ap_mm"]["geometric"], disc["canal_ap_mm"]["cnn"], CANAL_BOUND_MM):
            disc["flags"].append("canal_disagreement")


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
