"""overlay.png: the midsagittal slice with what was found and where it was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spine_client.errors import MissingExtra
from spine_client.overlay import style
from spine_client.overlay.margin import draw_margin
from spine_client.overlay.picture import draw_image, draw_measurements, draw_names, draw_structures
from spine_client.overlay.plane import SagittalPlane, midsagittal_plane
from spine_client.result import SpineResult

_TALLEST_IN, _WIDEST_IN, _NARROWEST_IN = 7.2, 5.4, 1.8
_MARGIN_WIDTH_IN = 3.3
_HEAD_IN, _FOOT_IN, _GAP_IN = 0.62, 0.95, 0.12
_DPI = 160
_DISCLAIMER = "Research software, trained on synthetic phantoms, not a medical device."


def draw_overlay(result: SpineResult, path: Path) -> None:
    """Write a PNG: plain slice, slice with structures and measurement lines, numbers beside it.

    Raises `MissingExtra` without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("report", "Drawing overlays") from None
    plane = midsagittal_plane(result)
    picture = _picture_size_in(plane)
    width = 2 * picture[0] + _MARGIN_WIDTH_IN + 3 * _GAP_IN
    height = picture[1] + _HEAD_IN + _FOOT_IN
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=style.PAGE)
    FigureCanvasAgg(figure)
    plain, drawn, margin = _three_axes(figure, picture, width, height)
    draw_image(plain, plane)
    draw_image(drawn, plane)
    draw_structures(drawn, plane, result)
    for disc in result.discs:
        draw_measurements(drawn, plane, disc)
    draw_names(drawn, plane, result)
    draw_margin(margin, plane, result)
    _head_and_foot(figure, plane, result, width, height)
    figure.savefig(path, metadata={"Software": "spine_client"})


def _picture_size_in(plane: SagittalPlane) -> tuple[float, float]:
    """Width and height of one picture, true to scale within sensible limits."""
    height_mm, width_mm = plane.size_mm
    height = min(_TALLEST_IN, _WIDEST_IN * height_mm / width_mm)
    return max(height * width_mm / height_mm, _NARROWEST_IN), height


def _three_axes(figure: Any, picture: tuple[float, float], width: float, height: float) -> list[Any]:
    lefts = (_GAP_IN, 2 * _GAP_IN + picture[0], 2 * _GAP_IN + 2 * picture[0])
    widths = (picture[0], picture[0], _MARGIN_WIDTH_IN)
    bottom, tall = _FOOT_IN / height, picture[1] / height
    return [
        figure.add_axes((left / width, bottom, wide / width, tall))
        for left, wide in zip(lefts, widths, strict=True)
    ]


def _head_and_foot(
    figure: Any, plane: SagittalPlane, result: SpineResult, width: float, height: float
) -> None:
    left, right = _GAP_IN / width, 1 - _GAP_IN / width
    top = 1 - 0.26 / height
    figure.text(left, top, _title(plane), fontsize=style.TITLE_PT, color=style.INK,
                fontweight="bold", va="center")  # fmt: skip
    figure.text(right, top, _naming(result), fontsize=style.TEXT_PT, color=style.FAINT_INK, ha="right",
                va="center")  # fmt: skip
    for word, colour, x in _legend(left, width):
        figure.text(x, (_FOOT_IN - 0.22) / height, "■ ", color=colour, fontsize=style.TEXT_PT, va="center")
        figure.text(x + 0.17 / width, (_FOOT_IN - 0.22) / height, word, color=style.INK,
                    fontsize=style.SMALL_PT, va="center")  # fmt: skip
    figure.text(left, 0.42 / height, _DISCLAIMER, fontsize=style.TEXT_PT, color=style.FLAG,
                fontweight="bold", va="center")  # fmt: skip
    figure.text(left, 0.2 / height, _provenance(result), fontsize=style.SMALL_PT, color=style.FAINT_INK,
                va="center")  # fmt: skip


def _legend(left: float, width: float) -> list[tuple[str, str, float]]:
    entries = (
        ("body", style.BODY_COLOURS[0], 0.62),
        ("disc", style.DISC_COLOUR, 0.58),
        ("canal", style.CANAL_COLOUR, 0.66),
        ("sacrum", style.SACRUM_COLOUR, 0.76),
        ("disc height", "#9aa4af", 0.98),
        ("canal AP", style.CANAL_AP_COLOUR, 0.9),
    )
    placed, x = [], left
    for word, colour, advance_in in entries:
        placed.append((word, colour, x))
        x += advance_in / width
    return placed


def _title(plane: SagittalPlane) -> str:
    if plane.is_curved:
        return "Spine MRI, midsagittal, following the spine sideways"
    return f"Spine MRI, midsagittal slice {round(plane.slices[0]) + 1} from the right"


def _naming(result: SpineResult) -> str:
    if not result.vertebrae:
        return "no vertebra found"
    return result.naming.sentence


def _provenance(result: SpineResult) -> str:
    origin = result.provenance
    model = origin.segmentation
    parts = [f"{origin.software_name} {origin.software_version}".strip()]
    if model is not None:
        parts.append(f"{model.name} {model.version} ({model.sha256[:12]})")
    parts += [f"request {result.request_id}", "* flagged or cut by the image's edge"]
    return "  ·  ".join(part for part in parts if part)
