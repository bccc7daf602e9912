"""Reading the report: strict where numbers could be misread, liberal about what is new."""

from __future__ import annotations

import json

import pytest
from fake_triton import report_dict

from spine_client._report_parser import parse_report
from spine_client.errors import ProtocolError


def _parsed(**changes):
    return parse_report(json.dumps(report_dict(**changes)))


def test_all_parts_are_typed() -> None:
    report = _parsed()
    disc = report.discs[0]
    assert (disc.name, disc.label, disc.upper.name, disc.lower.label) == ("L4/L5", 123, "L4", 24)
    assert disc.height_mm.geometric.anterior == 10.0
    assert disc.height_mm.cnn.mean == 9.4
    assert disc.height_lines_lps_mm.middle == ((0.0, 0.0, 0.0), (0.0, 0.0, 9.0))
    assert (disc.canal_ap_mm.geometric, disc.canal_ap_mm.cnn) == (14.2, None)
    assert disc.canal_ap_line_lps_mm is None
    assert [vertebra.name for vertebra in report.vertebrae] == ["L4", "L5"]
    assert (report.naming.method, report.naming.named) == ("sacrum", True)
    assert report.canal.min_ap_mm == 14.2
    assert report.provenance.segmentation.sha256 == "ab" * 32
    assert report.warnings[0].code == "demo_weights"
    assert report.timings_s == {"segment": 1.5}


def test_a_report_of_version_1_0_has_none_of_what_came_later() -> None:
    disc, vertebra = _parsed().discs[0], _parsed().vertebrae[0]
    assert disc.height_mm.reported is None and disc.height_mm.standard_error_mm.cnn is None
    assert (disc.canal_ap_mm.reported, disc.canal_ap_mm.standard_error_mm.reported) == (None, None)
    assert disc.canal_min_ap_mm is None and disc.signal_to_csf is None and vertebra.canal_ap_mm is None


def test_errors_combined_values_and_the_canal_behind_bodies_are_read() -> None:
    raw = report_dict(schema_version="1.1")
    disc, vertebra = raw["discs"][0], raw["vertebrae"][0]
    heights = dict.fromkeys(("anterior", "middle", "posterior", "mean"), 0.4)
    disc["height_mm"] |= {"reported": heights, "standard_error_mm": {"geometric": heights, "cnn": None}}
    disc["canal_ap_mm"] |= {"reported": 14.1, "standard_error_mm": {"geometric": 0.9, "reported": 0.7}}
    disc["signal_to_csf"] = {"value": None, "reason": "csf_not_brighter"}
    vertebra["canal_min_ap_mm"] = {"geometric": 12.5, "standard_error_mm": 1.1}
    vertebra["canal_min_ap_line_lps_mm"] = [[0, 0, 0], [0, 12.5, 0]]
    report = parse_report(json.dumps(raw))
    read, body = report.discs[0], report.vertebrae[0]
    assert read.height_mm.reported.mean == read.height_mm.standard_error_mm.geometric.mean == 0.4
    assert (read.canal_ap_mm.reported, read.canal_ap_mm.standard_error_mm.geometric) == (14.1, 0.9)
    assert read.canal_ap_mm.standard_error_mm.cnn is None
    assert read.signal_to_csf.reason == "csf_not_brighter"
    assert (body.canal_min_ap_mm.geometric, body.canal_min_ap_mm.standard_error_mm) == (12.5, 1.1)
    assert body.canal_min_ap_line_lps_mm == ((0.0, 0.0, 0.0), (0.0, 12.5, 0.0))


def test_unknown_keys_are_kept_and_ignored() -> None:
    report = _parsed(schema_version="1.7", novelty={"x": 1})
    assert report.raw["novelty"] == {"x": 1}


def test_no_level_found() -> None:
    report = _parsed(vertebrae=[], discs=[], canal={"volume_mm3": 0, "min_ap_mm": None})
    assert report.discs == ()
    assert report.canal.min_ap_mm is None


def test_unnamed_levels() -> None:
    body = {"name": None, "label": 71, "centroid_lps_mm": [1, 2, 3], "volume_mm3": 9, "complete": False}
    assert _parsed(vertebrae=[body]).vertebrae[0].name is None


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": "2.0"},
        {"schema_version": None},
        {"schema_version": 1.0},
        {"kind": "other.report"},
        {"vertebrae": None},
        {"discs": {}},
        {"discs": [{"name": "L4/L5"}]},
        {"discs": [[]]},
        {"canal": {"volume_mm3": "much"}},
        {"canal": {"volume_mm3": True}},
        {"warnings": [{"message": "no code"}]},
        {"models": []},
    ],
)
def test_what_could_be_misread_is_refused(changes) -> None:
    with pytest.raises(ProtocolError):
        _parsed(**changes)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100000])
def test_what_is_no_report_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_report(text)


def test_nan_in_a_measurement_is_refused() -> None:
    with pytest.raises(ProtocolError):
        _parsed(canal={"volume_mm3": float("nan")})


def test_another_major_version_is_named() -> None:
    with pytest.raises(ProtocolError, match=r"version 2\.0, this SDK reads 1\.x"):
        _parsed(schema_version="2.0")
