"""Report JSON → dataclasses. The only file that knows the keys of the report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from spine_client._contract import REPORT_KIND, SCHEMA_MAJOR
from spine_client.errors import ProtocolError
from spine_client.notices import Notice
from spine_client.report import (
    Canal,
    CanalErrors,
    CanalMeasurement,
    Disc,
    DiscHeight,
    DiscSignal,
    GeometricLength,
    HeightErrors,
    HeightLines,
    HeightMeasurement,
    Level,
    Line,
    ModelInfo,
    Naming,
    Point,
    Provenance,
    Report,
    Vertebra,
)

T = TypeVar("T")
_KINDS = ("geometric", "cnn", "reported")
_DISCLAIMER = "Research software, not a medical device."


def parse_report(text: bytes | str) -> Report:
    """Read a report. Raises `ProtocolError` for another major schema version or an unexpected type."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError("the server's report is not JSON") from None
    report = _object(raw, "report")
    _check_version(report)
    return Report(
        vertebrae=_each(report, "vertebrae", _vertebra),
        discs=_each(report, "discs", _disc),
        canal=_canal(_part(report, "canal")),
        naming=_naming(_part(report, "naming")),
        warnings=_each(report, "warnings", _warning, required=False),
        provenance=_provenance(report),
        timings_s=_timings(report),
        raw=raw,
    )


def _check_version(report: Mapping[str, Any]) -> None:
    version = _text(report, "schema_version")
    if version.split(".")[0] != str(SCHEMA_MAJOR):
        raise ProtocolError(
            f"the server's report has schema version {version[:20]}, this SDK reads {SCHEMA_MAJOR}.x; "
            "install the SDK that belongs to the server"
        )
    if report.get("kind", REPORT_KIND) != REPORT_KIND:
        raise ProtocolError("the server's answer is no SpineServe report")


def _vertebra(item: Mapping[str, Any]) -> Vertebra:
    return Vertebra(
        name=_optional_text(item, "name"),
        label=_integer(item, "label"),
        centroid_lps_mm=_point(item.get("centroid_lps_mm"), "centroid_lps_mm"),
        volume_mm3=_required_number(item, "volume_mm3"),
        complete=_flag(item, "complete", default=True),
        canal_ap_mm=_optional(item, "canal_ap_mm", _geometric_length),
        canal_ap_line_lps_mm=_line(item.get("canal_ap_line_lps_mm"), "canal_ap_line_lps_mm"),
        canal_min_ap_mm=_optional(item, "canal_min_ap_mm", _geometric_length),
        canal_min_ap_line_lps_mm=_line(item.get("canal_min_ap_line_lps_mm"), "canal_min_ap_line_lps_mm"),
    )


def _disc(item: Mapping[str, Any]) -> Disc:
    lines = _part(item, "height_lines_lps_mm")
    return Disc(
        name=_optional_text(item, "name"),
        label=_integer(item, "label"),
        upper=_optional(item, "upper", _level),
        lower=_optional(item, "lower", _level),
        centroid_lps_mm=_point(item.get("centroid_lps_mm"), "centroid_lps_mm"),
        height_mm=_heights(_part(item, "height_mm")),
        height_lines_lps_mm=HeightLines(
            *(_line(lines.get(place), place) for place in ("anterior", "middle", "posterior"))
        ),
        canal_ap_mm=_canal_diameter(_part(item, "canal_ap_mm")),
        canal_ap_line_lps_mm=_line(item.get("canal_ap_line_lps_mm"), "canal_ap_line_lps_mm"),
        complete=_flag(item, "complete", default=True),
        flags=tuple(str(flag) for flag in _list(item.get("flags") or [], "flags")),
        canal_min_ap_mm=_optional(item, "canal_min_ap_mm", _geometric_length),
        canal_min_ap_line_lps_mm=_line(item.get("canal_min_ap_line_lps_mm"), "canal_min_ap_line_lps_mm"),
        signal_to_csf=_optional(item, "signal_to_csf", _disc_signal),
    )


def _heights(item: Mapping[str, Any]) -> HeightMeasurement:
    geometric, cnn, reported = (_optional(item, kind, _disc_height) for kind in _KINDS)
    errors = _part(item, "standard_error_mm")
    return HeightMeasurement(
        geometric, cnn, reported, HeightErrors(*(_optional(errors, kind, _disc_height) for kind in _KINDS))
    )


def _canal_diameter(item: Mapping[str, Any]) -> CanalMeasurement:
    geometric, cnn, reported = (_number(item, kind) for kind in _KINDS)
    errors = _part(item, "standard_error_mm")
    return CanalMeasurement(
        geometric, cnn, reported, CanalErrors(*(_number(errors, kind) for kind in _KINDS))
    )


def _geometric_length(item: Mapping[str, Any]) -> GeometricLength:
    return GeometricLength(_number(item, "geometric"), _number(item, "standard_error_mm"))


def _disc_signal(item: Mapping[str, Any]) -> DiscSignal:
    return DiscSignal(_number(item, "value"), _optional_text(item, "reason"))


def _level(item: Mapping[str, Any]) -> Level:
    return Level(_optional_text(item, "name"), _integer(item, "label"))


def _disc_height(item: Mapping[str, Any]) -> DiscHeight:
    return DiscHeight(*(_number(item, place) for place in ("anterior", "middle", "posterior", "mean")))


def _canal(item: Mapping[str, Any]) -> Canal:
    return Canal(_number(item, "volume_mm3"), _number(item, "min_ap_mm"))


def _naming(item: Mapping[str, Any]) -> Naming:
    return Naming(
        method=_optional_text(item, "method") or "none",
        named=_flag(item, "named", default=False),
        reason=_optional_text(item, "reason") or "",
    )


def _warning(item: Mapping[str, Any]) -> Notice:
    return Notice(_text(item, "code"), _optional_text(item, "message") or "")


def _provenance(report: Mapping[str, Any]) -> Provenance:
    software = _part(report, "software")
    models = _part(report, "models")
    return Provenance(
        schema_version=_text(report, "schema_version"),
        software_name=_optional_text(software, "name") or "",
        software_version=_optional_text(software, "version") or "",
        segmentation=_optional(models, "segmentation", _model),
        measurement=_optional(models, "measurement", _model),
        disclaimer=_optional_text(report, "disclaimer") or _DISCLAIMER,
    )


def _model(item: Mapping[str, Any]) -> ModelInfo:
    return ModelInfo(
        *(_optional_text(item, key) or "" for key in ("name", "version", "sha256", "trained_on"))
    )


def _timings(report: Mapping[str, Any]) -> dict[str, float]:
    timings = _part(report, "timings_s")
    return {str(stage): value for stage in timings if (value := _number(timings, stage)) is not None}


def _unexpected(where: str) -> ProtocolError:
    return ProtocolError(f"the server's report has an unexpected value at «{where}»; align SDK and server")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _unexpected(where)
    return value


def _part(item: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object that may be absent or null."""
    value = item.get(key)
    return {} if value is None else _object(value, key)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _unexpected(where)
    return value


def _each(
    item: Mapping[str, Any], key: str, parse: Callable[[Mapping[str, Any]], T], *, required: bool = True
) -> tuple[T, ...]:
    values = _list(item.get(key, None if required else []), key)
    return tuple(parse(_object(value, key)) for value in values)


def _optional(item: Mapping[str, Any], key: str, parse: Callable[[Mapping[str, Any]], T]) -> T | None:
    value = item.get(key)
    return None if value is None else parse(_object(value, key))


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise _unexpected(key)
    return value


def _optional_text(item: Mapping[str, Any], key: str) -> str | None:
    return None if item.get(key) is None else _text(item, key)


def _integer(item: Mapping[str, Any], key: str) -> int:
    value = item.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _unexpected(key)
    return value


def _flag(item: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = item.get(key, default)
    if not isinstance(value, bool):
        raise _unexpected(key)
    return value


def _number(item: Mapping[str, Any], key: str) -> float | None:
    value = item.get(key)
    return None if value is None else _finite(value, key)


def _required_number(item: Mapping[str, Any], key: str) -> float:
    return _finite(item.get(key), key)


def _finite(value: Any, where: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise _unexpected(where)
    return float(value)


def _point(value: Any, where: str) -> Point:
    x, y, z = (_finite(number, where) for number in _exactly(value, 3, where))
    return x, y, z


def _line(value: Any, where: str) -> Line | None:
    if value is None:
        return None
    start, end = (_point(point, where) for point in _exactly(value, 2, where))
    return start, end


def _exactly(value: Any, count: int, where: str) -> list[Any]:
    values = _list(value, where)
    if len(values) != count:
        raise _unexpected(where)
    return values
