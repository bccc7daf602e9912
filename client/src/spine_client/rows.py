"""The measurements as rows, one per disc: the same columns in `to_frame`, in CSV files and in tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from spine_client.errors import MissingExtra
from spine_client.report import Disc, DiscHeight

if TYPE_CHECKING:
    from pandas import DataFrame

DISC_COLUMNS = (
    "disc", "height_anterior_mm", "height_middle_mm", "height_posterior_mm", "height_mean_mm",
    "height_mean_cnn_mm", "height_mean_reported_mm", "height_mean_standard_error_mm",
    "canal_ap_mm", "canal_ap_cnn_mm", "canal_ap_reported_mm", "canal_ap_standard_error_mm",
    "complete", "flags",
)  # fmt: skip
"""`disc` is a `Disc.title`; lengths are geometric unless they say ``cnn``, or ``reported``: from both.
Standard errors are those of the reported lengths; `flags` are codes."""
SHOWN_COLUMNS = (
    "height_anterior_mm", "height_middle_mm", "height_posterior_mm", "height_mean_mm", "height_mean_cnn_mm",
    "canal_ap_mm", "canal_ap_cnn_mm",
)  # fmt: skip
"""Those of them that tables for reading have room for."""


def disc_row(disc: Disc) -> dict[str, str | float | bool | None]:
    """`DISC_COLUMNS` of one disc; None where nothing was measured."""
    nothing = DiscHeight(None, None, None, None)
    height, cnn = disc.height_mm.geometric or nothing, disc.height_mm.cnn or nothing
    error = disc.height_mm.standard_error_mm.reported or nothing
    return {
        "disc": disc.title,
        "height_anterior_mm": height.anterior,
        "height_middle_mm": height.middle,
        "height_posterior_mm": height.posterior,
        "height_mean_mm": height.mean,
        "height_mean_cnn_mm": cnn.mean,
        "height_mean_reported_mm": (disc.height_mm.reported or nothing).mean,
        "height_mean_standard_error_mm": error.mean,
        "canal_ap_mm": disc.canal_ap_mm.geometric,
        "canal_ap_cnn_mm": disc.canal_ap_mm.cnn,
        "canal_ap_reported_mm": disc.canal_ap_mm.reported,
        "canal_ap_standard_error_mm": disc.canal_ap_mm.standard_error_mm.reported,
        "complete": disc.complete,
        "flags": " ".join(disc.flags),
    }


def discs_frame(discs: Iterable[Disc]) -> DataFrame:
    """`DISC_COLUMNS` of each disc as a pandas table, lengths as float64, NaN where nothing was measured."""
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise MissingExtra("pandas", "to_frame()") from error
    frame = DataFrame([disc_row(disc) for disc in discs], columns=list(DISC_COLUMNS))
    return frame.astype(
        {name: "float64" for name in DISC_COLUMNS if name.endswith("_mm")} | {"complete": bool}
    )
