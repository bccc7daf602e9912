"""Draws the slice: image, structures, names, and the lines along which was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spine_client._contract import CANAL_LABEL, DISC_OFFSET, SACRUM_LABEL
from spine_client.overlay import style
from spine_client.overlay.contours import smooth_mask
from spine_client.overlay.plane import SagittalPlane
from spine_client.report import Disc, Line
from spine_client.result import SpineResult


def draw_image(axes: Any, plane: SagittalPlane) -> None:
    """The slice in grey, true to scale, with R/L-free orientation letters."""
    low, high = _window(plane.image)
    axes.imshow(
        plane.image, cmap="gray", vmin=low, vmax=high, extent=plane.extent_mm, interpolation="bicubic"
    )
    left, right, bottom, top = plane.extent_mm
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
    for spine in axes.spines.values():
        spine.set_visible(False)
    for letter, x, y in (("A", 0.02, 0.5), ("P", 0.98, 0.5), ("S", 0.5, 0.98), ("I", 0.5, 0.02)):
        horizontal = {0.02: "left", 0.98: "right"}.get(x, "center")
        vertical = {0.98: "top", 0.02: "bottom"}.get(y, "center")
        axes.text(
            x, y, letter, transform=axes.transAxes, ha=horizontal, va=vertical,
            color="#d0d7de", fontsize=style.SMALL_PT, path_effects=_halo(1.5),
        )  # fmt: skip


def draw_structures(axes: Any, plane: SagittalPlane, result: SpineResult) -> None:
    """Each structure filled transparently and outlined; canal and discs above the bodies."""
    positions = {vertebra.label: i for i, vertebra in enumerate(result.vertebrae)}
    present = [int(label) for label in np.unique(plane.labels) if label]
    for label in sorted(present, key=lambda value: (value == CANAL_LABEL, value > DISC_OFFSET)):
        colour = style.colour_of(label, positions.get(label, 0))
        x, y, coverage = smooth_mask(plane.labels == label, plane.spacing_mm)
        axes.contourf(x, y, coverage, levels=[0.5, 1.5], colors=[colour], alpha=style.FILL_ALPHA)
        axes.contour(x, y, coverage, levels=[0.5], colors=[colour], linewidths=1.0)


def draw_names(axes: Any, plane: SagittalPlane, result: SpineResult) -> None:
    """Names in the bodies; a level without a name gets its number from the top."""
    for vertebra in result.vertebrae:
        inside = plane.labels == vertebra.label
        if not inside.any():
            continue
        rows, columns = np.nonzero(inside)
        row, column = (
            (np.median(rows), np.median(columns))
            if vertebra.label != SACRUM_LABEL
            else _upper_part(rows, columns)
        )
        axes.text(
            column * plane.spacing_mm[1], row * plane.spacing_mm[0], vertebra.title,
            color="white", fontsize=style.TEXT_PT, fontweight="bold", ha="center", va="center",
            path_effects=_halo(2.0),
        )  # fmt: skip


def draw_measurements(axes: Any, plane: SagittalPlane, disc: Disc) -> None:
    """The height lines of one disc and the AP line of its canal, with small end caps."""
    lines = disc.height_lines_lps_mm
    for line in (lines.anterior, lines.middle, lines.posterior):
        _draw_line(axes, plane, line, style.HEIGHT_COLOUR, 1.1)
    _draw_line(axes, plane, disc.canal_ap_line_lps_mm, style.CANAL_AP_COLOUR, 1.4)


def _draw_line(axes: Any, plane: SagittalPlane, line: Line | None, colour: str, width: float) -> None:
    if line is None:
        return
    (x0, y0), (x1, y1) = plane.project(line[0]), plane.project(line[1])
    axes.plot([x0, x1], [y0, y1], color=colour, linewidth=width, solid_capstyle="butt",
              path_effects=_halo(width + 1.2))  # fmt: skip
    length = np.hypot(x1 - x0, y1 - y0)
    if length == 0:
        return
    cap_x, cap_y = -(y1 - y0) / length, (x1 - x0) / length
    for x, y in ((x0, y0), (x1, y1)):
        axes.plot([x - cap_x, x + cap_x], [y - cap_y, y + cap_y], color=colour, linewidth=width)


def _upper_part(rows: npt.NDArray[Any], columns: npt.NDArray[Any]) -> tuple[Any, Any]:
    """Centre of the topmost third: the sacrum is long, S1 is at its top."""
    upper = rows <= np.quantile(rows, 0.33)
    return np.median(rows[upper]), np.median(columns[upper])


def _window(image: npt.NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(image, (1.0, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _halo(width: float) -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="#00000099")]
