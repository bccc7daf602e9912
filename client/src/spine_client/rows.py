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
    "height_mean_cnn_mm", "canal_ap_mm", "canal_ap_cnn_mm", "complete", "flags",
)  # fmt: skip
"""`disc` is a `Disc.title`; lengths are geometric unless they say ``cnn``; `flags` are codes."""


def disc_row(disc: Disc) -> dict[str, str | float | bool | None]:
    """`DISC_COLUMNS` of one disc; None where nothing was measured."""
    nothing = DiscHeight(None, None, None, None)
    height, cnn = disc.height_mm.geometric or nothing, disc.height_mm.cnn or nothing
    return {
        "disc": disc.title,
        "height_anterior_mm": height.anterior,
        "height_middle_mm": height.middle,
        "height_posterior_mm": height.posterior,
        "height_mean_mm": height.mean,
        "height_mean_cnn_mm": cnn.mean,
        "canal_ap_mm": disc.canal_ap_mm.geometric,
        "canal_ap_cnn_mm": disc.canal_ap_mm.cnn,
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
