"""The table beside the picture: one row per disc, level with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from spine_client.overlay import style
from spine_client.overlay.plane import SagittalPlane
from spine_client.report import Disc
from spine_client.result import SpineResult

_COLUMNS = (0.14, 0.49, 0.63, 0.83, 0.97)
"""Where the text of level, height (geometric, CNN) and canal (geometric, CNN) ends or starts, 0…1."""
_ROW_MM_FRACTION = 0.034
"""Least distance of two rows, as a part of the picture's height."""


def draw_margin(axes: Any, plane: SagittalPlane, result: SpineResult) -> None:
    """Names and numbers of all discs, each joined to its disc by a thin line."""
    height = plane.size_mm[0]
    axes.set(xlim=(0, 1), ylim=(plane.extent_mm[2], plane.extent_mm[3]))
    axes.axis("off")
    _head(axes, plane.extent_mm[3], height)
    if not result.discs:
        axes.text(
            0.05, height / 2, "No disc was found in this image.", fontsize=style.TEXT_PT, color=style.INK
        )
        return
    wanted = [plane.project(disc.centroid_lps_mm)[1] for disc in result.discs]
    rows = spread(wanted, low=0.09 * height, high=0.97 * height, gap=_ROW_MM_FRACTION * height)
    for disc, at, row in zip(result.discs, wanted, rows, strict=True):
        axes.plot([0.0, 0.05, 0.12], [at, row, row], color=style.RULE, linewidth=0.7, clip_on=False)
        _row(axes, disc, row)


def spread(wanted: list[float], *, low: float, high: float, gap: float) -> list[float]:
    """Positions in the order of `wanted`, at least `gap` apart and near to what was wanted."""
    order = np.argsort(wanted, kind="stable")
    placed = np.clip(np.array(wanted, dtype=float)[order], low, high)
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    overshoot = placed[-1] - high
    if overshoot > 0:
        placed[-1] = high
        for i in range(len(placed) - 2, -1, -1):
            placed[i] = min(placed[i], placed[i + 1] - gap)
    result = np.empty(len(placed))
    result[order] = placed
    return [float(value) for value in result]


def _head(axes: Any, top: float, height: float) -> None:
    first, second = top + 0.022 * height, top + 0.05 * height
    faint = {"fontsize": style.SMALL_PT, "color": style.FAINT_INK, "va": "center"}
    strong = {"fontsize": style.SMALL_PT, "color": style.INK, "va": "center", "fontweight": "bold"}
    axes.text(_COLUMNS[2], first, "Disc height, mm", ha="right", **strong)
    axes.text(_COLUMNS[4], first, "Canal AP, mm", ha="right", **strong)
    axes.text(_COLUMNS[0], second, "Disc", ha="left", **faint)
    for column, word in zip(_COLUMNS[1:], ("geom.", "CNN", "geom.", "CNN"), strict=True):
        axes.text(column, second, word, ha="right", **faint)
    axes.plot([_COLUMNS[0], _COLUMNS[4]], [second + 0.017 * height] * 2, color=style.RULE, linewidth=0.8)


def _row(axes: Any, disc: Disc, y: float) -> None:
    colour = style.FLAG if disc.flags or not disc.complete else style.INK
    text = {"fontsize": style.TEXT_PT, "va": "center"}
    axes.text(_COLUMNS[0], y, disc_title(disc), ha="left", color=colour, fontweight="bold", **text)
    height, canal = disc.height_mm, disc.canal_ap_mm
    values = (
        height.geometric and height.geometric.mean,
        height.cnn and height.cnn.mean,
        canal.geometric,
        canal.cnn,
    )
    for column, value in zip(_COLUMNS[1:], values, strict=True):
        shown = "–" if value is None else f"{value:.1f}"
        axes.text(column, y, shown, ha="right", color=style.INK, **text)


def disc_title(disc: Disc) -> str:
    """Name of the disc, with an asterisk where it is flagged or cut by the image's edge."""
    return f"{disc.title}*" if disc.flags or not disc.complete else disc.title
