"""The report as frozen dataclasses. Lengths in mm, volumes in mm³, points in LPS mm.

`parse_report` is liberal about keys it does not know and strict about the major schema version and the types
of what it reads. Names are None where a level could not be named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from spine_client._contract import DISC_OFFSET, UNNAMED_OFFSET
from spine_client.notices import Notice

Point: TypeAlias = tuple[float, float, float]
Line: TypeAlias = tuple[Point, Point]
_ANCHORS = {"sacrum": "the sacrum", "c2": "C2", "sacrum+c2": "the sacrum and C2", "hint": "the region hint"}


@dataclass(frozen=True)
class DiscHeight:
    """Distance between the two endplates in the midsagittal plane, mm.

    Anterior, middle, posterior: at 85, 50 and 15 % of the disc's extent from its posterior edge; mean: over
    the inner 80 %.
    """

    anterior: float | None
    middle: float | None
    posterior: float | None
    mean: float | None


@dataclass(frozen=True)
class HeightErrors:
    """Standard errors of the heights, mm; all None where the server has no table of them."""

    geometric: DiscHeight | None = None
    cnn: DiscHeight | None = None
    reported: DiscHeight | None = None


@dataclass(frozen=True)
class HeightMeasurement:
    """Disc height by geometry (from the label map), by the measurement CNN, and combined (`reported`)."""

    geometric: DiscHeight | None
    cnn: DiscHeight | None
    reported: DiscHeight | None = None
    standard_error_mm: HeightErrors = HeightErrors()


@dataclass(frozen=True)
class CanalErrors:
    """Standard errors of a canal AP diameter, mm; all None where the server has no table of them."""

    geometric: float | None = None
    cnn: float | None = None
    reported: float | None = None


@dataclass(frozen=True)
class CanalMeasurement:
    """Canal AP diameter at a disc, mm, perpendicular to the canal in the midsagittal plane."""

    geometric: float | None
    cnn: float | None
    reported: float | None = None
    standard_error_mm: CanalErrors = CanalErrors()


@dataclass(frozen=True)
class GeometricLength:
    """A length that only geometry measures, mm, and its standard error."""

    geometric: float | None
    standard_error_mm: float | None = None


@dataclass(frozen=True)
class DiscSignal:
    """Mean signal of a disc in the midsagittal slices over that of the cerebrospinal fluid beside it.

    `value` is None where that cannot be said; `reason`: ``"csf_not_found"``, ``"csf_not_brighter"`` (not a
    T2-like image) or ``"disc_incomplete"``.
    """

    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class HeightLines:
    """Where the geometric heights were taken: from endplate to endplate, LPS mm."""

    anterior: Line | None
    middle: Line | None
    posterior: Line | None


@dataclass(frozen=True)
class Level:
    """A vertebra by name and label number."""

    name: str | None
    label: int

    @property
    def title(self) -> str:
        """The name, or ``#3`` for the third level from the top of an image whose levels have no names."""
        return self.name or f"#{self.label - UNNAMED_OFFSET}"


@dataclass(frozen=True)
class Vertebra:
    """One vertebral body. `complete` is false where the image's edge cuts it.

    The canal's AP diameter at the body's mid plane and the smallest of this level, with their lines; None
    from servers before report 1.1.
    """

    name: str | None
    label: int
    centroid_lps_mm: Point
    volume_mm3: float
    complete: bool
    canal_ap_mm: GeometricLength | None = None
    canal_ap_line_lps_mm: Line | None = None
    canal_min_ap_mm: GeometricLength | None = None
    canal_min_ap_line_lps_mm: Line | None = None

    @property
    def title(self) -> str:
        """As `Level.title`."""
        return Level(self.name, self.label).title


@dataclass(frozen=True)
class Disc:
    """One disc with its measurements. `flags` are codes, e.g. ``"cnn_disagrees"``."""

    name: str | None
    label: int
    upper: Level | None
    lower: Level | None
    centroid_lps_mm: Point
    height_mm: HeightMeasurement
    height_lines_lps_mm: HeightLines
    canal_ap_mm: CanalMeasurement
    canal_ap_line_lps_mm: Line | None
    complete: bool
    flags: tuple[str, ...]
    canal_min_ap_mm: GeometricLength | None = None
    canal_min_ap_line_lps_mm: Line | None = None
    signal_to_csf: DiscSignal | None = None

    @property
    def title(self) -> str:
        """The name, or the titles of its neighbours, e.g. ``#3/#4``."""
        upper = self.upper or Level(None, self.label - DISC_OFFSET)
        lower = self.lower or Level(None, upper.label + 1)
        return self.name or f"{upper.title}/{lower.title}"


@dataclass(frozen=True)
class Canal:
    """The spinal canal as a whole."""

    volume_mm3: float | None
    min_ap_mm: float | None


@dataclass(frozen=True)
class Naming:
    """How the levels got their names: by ``sacrum``, ``c2``, both, a ``hint``, or ``none``."""

    method: str
    named: bool
    reason: str

    @property
    def sentence(self) -> str:
        """In words, for a reader of the numbers."""
        if not self.named:
            return "levels without names, #1, #2, … from the top of the image"
        return f"levels counted from {_ANCHORS.get(self.method, self.method)}"


@dataclass(frozen=True)
class ModelInfo:
    """Which network gave the numbers."""

    name: str
    version: str
    sha256: str
    trained_on: str


@dataclass(frozen=True)
class Provenance:
    """Where the result comes from."""

    schema_version: str
    software_name: str
    software_version: str
    segmentation: ModelInfo | None
    measurement: ModelInfo | None
    disclaimer: str


@dataclass(frozen=True)
class Report:
    """Everything the server found, typed; `raw` is the JSON object as it came."""

    vertebrae: tuple[Vertebra, ...]
    discs: tuple[Disc, ...]
    canal: Canal
    naming: Naming
    warnings: tuple[Notice, ...]
    provenance: Provenance
    timings_s: dict[str, float]
    raw: dict[str, Any]
