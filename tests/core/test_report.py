"""The report: CNN values beside the geometric ones, disagreement, and the schema."""

import copy
import json

import numpy as np
import pytest

from spinecore.calibration import FLUIDS, QUANTITIES, Calibration, Spread
from spinecore.csf import DARK_FLUID
from spinecore.errors import SpineError
from spinecore.findings import identify
from spinecore.geometry import Volume
from spinecore.report import CANAL_BOUND_MM, DISCLAIMER, HEIGHT_BOUND_MM, build_report, schema_errors

MODEL = {"name": "demo", "version": "1", "sha256": "0" * 64, "trained_on": "synthetic phantoms"}
MODELS = {"segmentation": MODEL, "measurement": MODEL}


@pytest.fixture
def findings(box_spine, column):
    spine = box_spine(column(3, bottom="sacrum"))
    return identify(spine.classes, spine.volume).document


def table(spread: float, dark: float | None = None) -> Calibration:
    """A table with the same standard error for everything, and another one where fluid is dark."""
    spreads = {
        (quantity, region, fluid): Spread(mm, None if "body" in quantity or "min" in quantity else mm)
        for quantity in QUANTITIES
        for region in ("lumbar", "any")
        for fluid, mm in zip(FLUIDS, (spread, dark or spread), strict=True)
    }
    return Calibration(40, 300, spreads, {}, {})


def report_of(findings, *, mean: float = 6.0, canal: float = 14.0, calibration: Calibration | None = None):
    count = max(len(findings["discs"]), 1)
    return build_report(
        findings,
        heights_mm=np.tile(np.array([5.0, 6.5, 6.0, mean], np.float32), (count, 1)),
        canal_ap_mm=np.full((count, 1), canal, np.float32),
        models=MODELS,
        calibration=calibration,
        request_id="r-1",
        timings_s={"identify": 0.5},
    )


def test_a_report_fits_its_schema_and_json(findings) -> None:
    report = report_of(findings)
    assert schema_errors(report) == []
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["disclaimer"] == DISCLAIMER and "Not a medical device" in DISCLAIMER


def test_cnn_values_stand_beside_the_geometric_ones(findings) -> None:
    disc = report_of(findings)["discs"][0]
    assert disc["height_mm"]["cnn"] == {"anterior": 5.0, "middle": 6.5, "posterior": 6.0, "mean": 6.0}
    assert disc["canal_ap_mm"]["cnn"] == 14.0
    assert disc["flags"] == []


def test_without_a_table_the_geometric_value_is_reported_without_an_error(findings) -> None:
    report = report_of(findings)
    disc = report["discs"][0]
    assert report["calibration"] is None
    assert disc["height_mm"]["reported"] == disc["height_mm"]["geometric"]
    assert disc["canal_ap_mm"]["reported"] == disc["canal_ap_mm"]["geometric"]
    assert disc["height_mm"]["standard_error_mm"] == dict.fromkeys(("geometric", "cnn", "reported"))


def test_with_a_table_every_value_has_its_error_and_both_are_combined(findings) -> None:
    report = report_of(findings, mean=7.0, canal=15.0, calibration=table(0.6))
    assert schema_errors(report) == [] and report["calibration"] == {"phantoms": 40, "discs": 300}
    disc, vertebra = report["discs"][0], report["vertebrae"][0]
    geometric = disc["height_mm"]["geometric"]["mean"]
    assert disc["height_mm"]["reported"]["mean"] == pytest.approx((geometric + 7.0) / 2, abs=0.011)
    errors = disc["height_mm"]["standard_error_mm"]
    assert (errors["cnn"]["mean"], errors["reported"]["mean"]) == (0.6, 0.42)  # 0.6 / sqrt 2
    assert disc["canal_ap_mm"]["standard_error_mm"] == {"geometric": 0.6, "cnn": 0.6, "reported": 0.42}
    assert disc["canal_min_ap_mm"]["standard_error_mm"] == 0.6
    assert vertebra["canal_ap_mm"] == {"geometric": pytest.approx(14, abs=0.3), "standard_error_mm": 0.6}


def test_an_image_with_dark_fluid_has_the_rows_of_such_images(findings) -> None:
    dark = copy.deepcopy(findings)
    for disc in dark["discs"]:
        disc["signal_to_csf"] = {"value": None, "reason": DARK_FLUID}
    bright = copy.deepcopy(findings)
    for disc in bright["discs"]:
        disc["signal_to_csf"] = {"value": 0.5, "reason": None}
    for image, error in ((bright, 0.6), (dark, 0.9)):
        disc = report_of(image, calibration=table(0.6, dark=0.9))["discs"][0]
        assert disc["canal_min_ap_mm"]["standard_error_mm"] == error


@pytest.mark.parametrize(("spread", "flagged"), [(0.5, False), (0.2, True)])
def test_disagreement_is_judged_by_the_errors_of_the_table(findings, spread: float, flagged: bool) -> None:
    report = report_of(findings, mean=7.0, canal=15.0, calibration=table(spread))  # about 1 mm off both
    flags = {flag for disc in report["discs"] for flag in disc["flags"]}
    assert flags == ({"height_disagreement", "canal_disagreement"} if flagged else set())


def test_the_findings_are_left_as_they_were(findings) -> None:
    before = copy.deepcopy(findings)
    report_of(findings)
    assert findings == before


@pytest.mark.parametrize("beyond", [-0.2, 0.2])
def test_disagreement_is_flagged_from_the_stated_bound(findings, beyond: float) -> None:
    report = report_of(findings, mean=6 + HEIGHT_BOUND_MM + beyond, canal=14 - CANAL_BOUND_MM - beyond)
    flags = {flag for disc in report["discs"] for flag in disc["flags"]}
    assert flags == ({"height_disagreement", "canal_disagreement"} if beyond > 0 else set())


@pytest.mark.parametrize("value", [np.nan, np.inf, -3.0, 400.0])
def test_an_impossible_cnn_value_is_left_out(findings, value: float) -> None:
    report = report_of(findings, mean=value, canal=value)
    disc = report["discs"][0]
    assert disc["height_mm"]["cnn"] is None and disc["canal_ap_mm"]["cnn"] is None
    assert schema_errors(report) == []


def test_fewer_cnn_rows_than_discs_are_refused(findings) -> None:
    with pytest.raises(SpineError, match="3 discs"):
        build_report(findings, heights_mm=np.ones((2, 4)), canal_ap_mm=np.ones((2, 1)), models=MODELS)


def test_a_report_says_how_the_volume_was_segmented(findings) -> None:
    told = {"mode": "fast", "network": "nnunet", "tiles": 6, "tiles_run": 4, "coarse_tiles": 0}
    empty = {"heights_mm": np.ones((9, 4)), "canal_ap_mm": np.ones((9, 1)), "models": MODELS}
    report = build_report(findings, **empty, segmentation=told)
    assert schema_errors(report) == [] and report["segmentation"] == told
    assert schema_errors(build_report(findings, **empty, segmentation=told | {"mode": "x"})) != []
    assert build_report(findings, **empty)["segmentation"] is None


def test_no_spine_makes_a_valid_report() -> None:
    volume = Volume(np.ones((1, 20, 20, 20), np.float32), np.eye(4))
    report = report_of(identify(np.zeros((20, 20, 20), np.uint8), volume).document)
    assert schema_errors(report) == []
    assert report["discs"] == [] and report["warnings"][0]["code"] == "no_spine"


def test_an_unnamed_column_makes_a_valid_report(box_spine, column) -> None:
    spine = box_spine(["disc", *column(3)], margin=0)
    report = report_of(identify(spine.classes, spine.volume).document)
    assert schema_errors(report) == []
    assert all(disc["name"] is None for disc in report["discs"])


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (lambda r: r.pop("disclaimer"), "disclaimer"),
        (lambda r: r.update(patient="x"), "patient"),
        (lambda r: r["discs"][0].update(label="L5"), "label"),
        (lambda r: r["discs"][0]["canal_ap_mm"].update(geometric=-1), "geometric"),
        (lambda r: r["discs"][0]["flags"].append("nice"), "flags"),
        (lambda r: r.update(schema_version="2.0"), "schema_version"),
        (lambda r: r["vertebrae"][0].update(name="L9"), "name"),
    ],
)
def test_the_schema_refuses_what_does_not_belong(findings, damage, place: str) -> None:
    report = report_of(findings)
    damage(report)
    assert any(place in error for error in schema_errors(report))
