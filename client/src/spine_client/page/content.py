"""What the page shows, ready for JSON: pictures as data URLs, places in picture pixels, numbers as text."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt

from spine_client._contract import CANAL_LABEL, DISC_OFFSET, SACRUM_LABEL
from spine_client.errors import MissingExtra
from spine_client.overlay import style
from spine_client.overlay.plane import SagittalStack, measured_lines, sagittal_stack
from spine_client.report import Disc, Line, ModelInfo
from spine_client.result import SpineResult
from spine_client.rows import SHOWN_COLUMNS, disc_row

_MOST_SLICES = 160
"""More are thinned out, so that the page stays of a size to send around."""
_JPEG_QUALITY = 88
_LINE_REACH_MM = 3.0
"""How far from its slice a measurement is still drawn."""


def page_content(result: SpineResult) -> dict[str, Any]:
    """Everything the template needs."""
    stack = sagittal_stack(result)
    shown = _shown_slices(stack)
    return {
        "size": [stack.image.shape[1], stack.image.shape[0]],
        "pixelMm": [stack.spacing_mm[1], stack.spacing_mm[0]],
        "slices": _pictures(stack, shown),
        "start": _start(stack, shown, result),
        "groups": _groups(stack.labels),
        "names": _names(stack, shown, result),
        "lines": [line for disc in result.discs for line in _lines(stack, shown, disc)],
        "discs": [_disc_row(stack, shown, disc) for disc in result.discs],
        "naming": result.naming.sentence if result.vertebrae else "no vertebra was found",
        "warnings": [warning.message for warning in result.warnings],
        "disclaimer": result.provenance.disclaimer,
        "provenance": _provenance(result),
        "colours": {"height": style.HEIGHT_COLOUR, "canalAp": style.CANAL_AP_COLOUR},
    }


def _shown_slices(stack: SagittalStack) -> npt.NDArray[np.intp]:
    count = stack.image.shape[2]
    return np.arange(0, count, int(np.ceil(count / _MOST_SLICES)))


def _pictures(stack: SagittalStack, shown: npt.NDArray[np.intp]) -> list[dict[str, Any]]:
    low, high = np.percentile(stack.image, (1.0, 99.5))
    scale = 255.0 / max(float(high - low), 1e-6)
    pictures = []
    for index in shown:
        grey = np.clip((stack.image[:, :, index] - low) * scale, 0, 255).astype(np.uint8)
        labels = np.ascontiguousarray(stack.labels[:, :, index])
        pictures.append({"image": _data_url(grey, "JPEG"), "labels": _data_url(labels, "PNG")})
    return pictures


def _data_url(pixels: npt.NDArray[np.uint8], kind: str) -> str:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("report", "Writing report.html") from None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": _JPEG_QUALITY} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _start(stack: SagittalStack, shown: npt.NDArray[np.intp], result: SpineResult) -> int:
    """Position of the slice that the page opens with."""
    slices = [_slice_of(stack, disc) for disc in result.discs]
    return _nearest(shown, float(np.median(slices))) if slices else len(shown) // 2


def _slice_of(stack: SagittalStack, disc: Disc) -> float:
    """Where the disc was measured; its middle if it was not."""
    points = [point for line in measured_lines(disc) for point in line] or [disc.centroid_lps_mm]
    return float(np.mean([_place(stack, point)[2] for point in points]))


def _nearest(shown: npt.NDArray[np.intp], index: float) -> int:
    return int(np.argmin(np.abs(shown - index)))


def _groups(labels: npt.NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Structures to switch on and off: their labels and colours."""
    present = [int(label) for label in np.unique(labels) if label]
    named = {"bodies": [], "discs": [], "canal": [], "sacrum": []}  # type: dict[str, list[list[Any]]]
    for label in present:
        named[_group_of(label)].append([label, style.colour_of(label, label)])
    swatches = (style.BODY_COLOURS[0], style.DISC_COLOUR, style.CANAL_COLOUR, style.SACRUM_COLOUR)
    return [
        {"name": name, "labels": entries, "colour": colour}
        for (name, entries), colour in zip(named.items(), swatches, strict=True)
    ]


def _group_of(label: int) -> str:
    if label == CANAL_LABEL:
        return "canal"
    if label == SACRUM_LABEL:
        return "sacrum"
    return "discs" if label > DISC_OFFSET else "bodies"


def _names(stack: SagittalStack, shown: npt.NDArray[np.intp], result: SpineResult) -> list[dict[str, Any]]:
    """Where each vertebra's name goes, and the positions of the slices it is seen in."""
    names = []
    for vertebra in result.vertebrae:
        seen = np.flatnonzero((stack.labels[:, :, shown] == vertebra.label).any(axis=(0, 1)))
        if len(seen):
            x, y, _ = _place(stack, vertebra.centroid_lps_mm)
            names.append({"text": vertebra.title, "x": x, "y": y, "from": int(seen[0]), "to": int(seen[-1])})
    return names


def _lines(stack: SagittalStack, shown: npt.NDArray[np.intp], disc: Disc) -> list[dict[str, Any]]:
    heights = disc.height_lines_lps_mm
    kinds = [(heights.anterior, "height"), (heights.middle, "height"), (heights.posterior, "height"),
             (disc.canal_ap_line_lps_mm, "canalAp")]  # fmt: skip
    return [_drawn_line(stack, shown, line, kind) for line, kind in kinds if line is not None]


def _drawn_line(stack: SagittalStack, shown: npt.NDArray[np.intp], line: Line, kind: str) -> dict[str, Any]:
    (x0, y0, s0), (x1, y1, s1) = _place(stack, line[0]), _place(stack, line[1])
    middle = _nearest(shown, (s0 + s1) / 2)
    step_mm = stack.spacing_mm[2] * (int(shown[1] - shown[0]) if len(shown) > 1 else 1)
    reach = int(_LINE_REACH_MM / step_mm)
    return {"kind": kind, "at": [x0, y0, x1, y1], "from": middle - reach, "to": middle + reach}


def _place(stack: SagittalStack, point: tuple[float, float, float]) -> tuple[float, float, float]:
    column, row, index = (stack.to_picture @ (*point, 1.0))[:3]
    return round(float(column), 2), round(float(row), 2), round(float(index), 2)


def _disc_row(stack: SagittalStack, shown: npt.NDArray[np.intp], disc: Disc) -> dict[str, Any]:
    row = disc_row(disc)
    values = [row[column] for column in SHOWN_COLUMNS]
    return {
        "title": disc.title,
        "values": ["–" if value is None else f"{value:.1f}" for value in values],
        "flags": [flag.replace("_", " ") for flag in disc.flags],
        "slice": _nearest(shown, _slice_of(stack, disc)),
    }


def _provenance(result: SpineResult) -> list[list[str]]:
    origin = result.provenance
    rows = [["Software", f"{origin.software_name} {origin.software_version}"]]
    models = (("Segmentation", origin.segmentation), ("Measurement", origin.measurement))
    rows += [[role, _model(model)] for role, model in models if model is not None]
    return [*rows, ["Report schema", origin.schema_version], ["Request", result.request_id]]


def _model(model: ModelInfo) -> str:
    return f"{model.name} {model.version}, trained on {model.trained_on}, sha256 {model.sha256[:16]}"
