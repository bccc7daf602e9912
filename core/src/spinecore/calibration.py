"""Standard errors of measured lengths, and how the geometric and the CNN's value become one.

A table beside the measurement network (``"calibration"`` in its ``measure.json``) holds how far both values
lay from the truth on phantoms that took no part in training: the root mean square of the residuals, bias
included, by quantity, region of the spine and whether fluid is bright or dark in the image, how the two
methods' residuals go together, and the line on which the truth lies over what both make of it.
`spine_training.calibration` fits it. It belongs to one pair of networks and is used with no other.

What phantoms cannot tell, e.g. an anatomy none of them has, is in no standard error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinecore.errors import ModelError
from spinecore.patches import check_description

FORMAT = 2  # 1 told thick slices from thin ones, which differ far less than T1 from T2
NOT_FITTED = (
    "measure.json has no standard errors fitted to these two networks in this version's format. Reports "
    "state null for them and geometric lengths. Fit them anew: python -m spine_training.calibration"
)
PLACES = ("anterior", "middle", "posterior", "mean")
DISC_QUANTITIES = (*(f"height_{place}" for place in PLACES), "canal_ap", "canal_min_ap")
BODY_QUANTITIES = ("body_canal_ap", "body_canal_min_ap")
QUANTITIES = (*DISC_QUANTITIES, *BODY_QUANTITIES)
ANY_REGION = "any"  # for levels without a name
REGIONS = {"C": "cervical", "T": "thoracic", "L": "lumbar"}
FLUIDS = ("bright", "dark")  # cerebrospinal fluid, beside marrow and discs: `spinecore.csf.fluid_is_dark`
DISAGREEMENT_FACTOR = 2.5
"""Geometry and CNN disagree beyond this many standard deviations of their difference: of values that only
scatter as on the phantoms about one in eighty is flagged (more if the tails are heavy)."""


@dataclass(frozen=True)
class Line:
    """The truth over the combined value, ``slope * mm + offset_mm``: masks make narrow canals too wide.

    error_factor: how much smaller the combined value's residuals are on the line.
    """

    slope: float = 1.0
    offset_mm: float = 0.0
    error_factor: float = 1.0


@dataclass(frozen=True)
class Spread:
    """Standard errors in mm of the two methods (cnn None where there is none), their correlation, and the
    line of the truth over both combined."""

    geometric: float
    cnn: float | None = None
    correlation: float = 0.0
    line: Line = Line()


@dataclass(frozen=True)
class Combined:
    """One value of two: mm, its standard error (None without a table), and whether the two disagree."""

    mm: float
    standard_error_mm: float | None
    disagree: bool = False


@dataclass(frozen=True)
class Calibration:
    """The table of one pair of networks.

    spreads: by (quantity, region, fluid). factors: by flag. lines: by quantity.
    """

    phantoms: int
    discs: int
    spreads: Mapping[tuple[str, str, str], Spread]
    factors: Mapping[str, float]
    lines: Mapping[str, Line]

    @classmethod
    def load(cls, file: Path, models: Mapping[str, Mapping[str, str]]) -> Calibration | None:
        """The table in a ``measure.json`` if it was fitted to `models` ("segmentation", "measurement").

        ModelError if that network was trained on patches that are cut otherwise than here.
        """
        content = json.loads(file.read_text(encoding="utf-8"))
        check_description(content)
        return cls.of_networks(
            content.get("calibration"),
            segmentation_sha256=models["segmentation"]["sha256"],
            measurement_sha256=models["measurement"]["sha256"],
        )

    @classmethod
    def of_networks(
        cls, content: Mapping[str, Any] | None, *, segmentation_sha256: str, measurement_sha256: str
    ) -> Calibration | None:
        """Read ``measure.json``'s table; None if there is none, or of another format or other networks."""
        if content is None or content.get("format") != FORMAT:
            return None
        ours = (segmentation_sha256, measurement_sha256)
        try:
            if (content["segmentation_sha256"], content["measurement_sha256"]) != ours:
                return None
            return cls(
                int(content["phantoms"]), int(content["discs"]), _spreads(content["spread_mm"]),
                {str(flag): float(factor) for flag, factor in content["flag_factors"].items()},
                _lines(content.get("lines", {})),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"The table of residuals in measure.json cannot be read: {error!r}.") from None

    def spread(
        self, quantity: str, *, level: str | None, dark: bool, flags: Collection[str] = ()
    ) -> Spread | None:
        """Of `quantity` at the vertebra or disc `level` (its name, None without one); None if not fitted."""
        region = REGIONS[level[0]] if level and level[0] in REGIONS else ANY_REGION
        found = self.spreads.get((quantity, region, FLUIDS[int(dark)]))
        if found is None:
            return None
        factor = math.prod(self.factors.get(flag, 1.0) for flag in flags)
        cnn = found.cnn * factor if found.cnn is not None else None
        line = self.lines.get(quantity, Line())
        return Spread(found.geometric * factor, cnn, found.correlation, line)


def _spreads(content: Mapping[str, Any]) -> dict[tuple[str, str, str], Spread]:
    spreads = {}
    for quantity, regions in content.items():
        for region, kinds in regions.items():
            for fluid, row in kinds.items():
                cnn = row.get("cnn")
                spreads[quantity, region, fluid] = Spread(
                    _positive(row["geometric"]),
                    _positive(cnn) if cnn is not None else None,
                    min(max(float(row.get("correlation", 0.0)), -0.99), 0.99),
                )
    return spreads


def _lines(content: Mapping[str, Any]) -> dict[str, Line]:
    return {
        quantity: Line(
            _positive(row["slope"]), float(row["offset_mm"]), min(_positive(row["error_factor"]), 1.0)
        )
        for quantity, row in content.items()
    }


def _positive(value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"a spread must be positive, got {number}")
    return number


def combine(geometric: float | None, cnn: float | None, spread: Spread | None) -> Combined | None:
    """The value to report: both weighted by the inverse of their covariance, no weight below 0.

    Without correlation that is the inverse of their variances. Both read the same segmentation, so mostly
    they err together: then the better one counts more than that, or alone. What comes out is put on the line
    of the truth. Where they disagree (`DISAGREEMENT_FACTOR`), its standard error is at least half their
    distance. Without a spread, or without the CNN's value, it is the geometric one, without the geometric one
    the CNN's, neither of them put on the line; None without either.
    """
    if geometric is None or cnn is None or spread is None or spread.cnn is None:
        only = geometric if geometric is not None else cnn
        if only is None:
            return None
        error = None
        if spread is not None:
            error = spread.geometric if geometric is not None else spread.cnn
        return Combined(only, error)
    first, second = spread.geometric, spread.cnn
    shared = spread.correlation * first * second
    of_difference = first**2 + second**2 - 2 * shared
    weight = min(max((second**2 - shared) / of_difference, 0.0), 1.0)
    mm = weight * geometric + (1 - weight) * cnn
    variance = (weight * first) ** 2 + ((1 - weight) * second) ** 2 + 2 * weight * (1 - weight) * shared
    apart = abs(geometric - cnn)
    disagree = apart > DISAGREEMENT_FACTOR * math.sqrt(of_difference)
    error = math.sqrt(max(variance, 0.0)) * spread.line.error_factor
    mm = max(spread.line.slope * mm + spread.line.offset_mm, 0.0)
    return Combined(mm, max(error, apart / 2) if disagree else error, disagree)
