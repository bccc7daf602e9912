"""Fitting the table of standard errors from residuals, and reading it back as the server does."""

import numpy as np
import pytest

from spine_training.calibration import OUTLIER_MM, Residual, fit, summary
from spinecore.calibration import FLUIDS, FORMAT, Calibration


def rows(count: int, *, region: str, fluid: str, geometric: float, cnn: float | None, flagged: bool = False):
    """Residuals of one group that alternate in sign, geometric and CNN's at random to one another."""
    signs = np.where(np.arange(count) % 2, 1.0, -1.0)
    others = np.where(np.arange(count) // 2 % 2, 1.0, -1.0)
    return [
        Residual("height_mean", region, fluid, flagged, geometric * s, None if cnn is None else cnn * o, 8.0)
        for s, o in zip(signs, others, strict=True)
    ]


def test_a_large_group_has_its_own_spread_and_a_small_one_leans_on_all() -> None:
    large = rows(4000, region="lumbar", fluid="bright", geometric=0.4, cnn=0.2)
    small = rows(4, region="cervical", fluid="bright", geometric=4.0, cnn=0.2)
    table = fit([*large, *small])["spread_mm"]["height_mean"]
    assert table["lumbar"]["bright"]["geometric"] == pytest.approx(0.4, abs=0.03)
    assert table["lumbar"]["bright"]["cnn"] == pytest.approx(0.2, abs=0.01)
    assert abs(table["lumbar"]["bright"]["correlation"]) < 0.05
    assert 0.7 < table["cervical"]["bright"]["geometric"] < 1.2  # (4 · 16 + 100 · 0.176) / 104 = 0.78 = 0.89²
    assert table["thoracic"]["dark"]["count"] == 0 and table["thoracic"]["dark"]["geometric"] > 0
    assert table["thoracic"]["bright"]["count"] == 0 and table["thoracic"]["bright"]["geometric"] > 0


def test_gross_errors_are_counted_and_left_out() -> None:
    group = rows(40, region="lumbar", fluid="bright", geometric=0.5, cnn=0.5)
    gross = rows(3, region="lumbar", fluid="bright", geometric=OUTLIER_MM + 1, cnn=0.5)
    found = fit([*group, *gross])
    assert found["left_out"] == 3
    assert found["spread_mm"]["height_mean"]["lumbar"]["bright"]["geometric"] == pytest.approx(0.5)


def test_flagged_discs_widen_the_errors_by_a_factor() -> None:
    plain = rows(200, region="lumbar", fluid="bright", geometric=0.5, cnn=0.5)
    flagged = rows(60, region="lumbar", fluid="bright", geometric=1.0, cnn=0.5, flagged=True)
    assert fit([*plain, *flagged])["flag_factors"] == {"cut_at_the_side": pytest.approx(2.0)}
    assert fit([*plain, *flagged[:10]])["flag_factors"] == {}


def test_what_both_make_of_thin_discs_is_put_on_the_line_of_the_truth() -> None:
    """As masks do: all is found 0.9 times as thick and half a millimetre more, with some scatter."""
    rng = np.random.default_rng(0)
    truths = rng.uniform(2, 12, 300)
    noise = rng.normal(0, 0.2, (300, 2))
    found = 0.9 * truths[:, None] + 0.5 + noise
    made = [
        Residual("height_mean", "lumbar", fluid, False, g - t, c - t, t)
        for t, (g, c), fluid in zip(truths, found, FLUIDS * 150, strict=True)
    ]
    line = fit(made)["lines"]["height_mean"]
    assert line["slope"] == pytest.approx(1 / 0.9, abs=0.02)
    assert line["offset_mm"] == pytest.approx(-0.5 / 0.9, abs=0.15)
    assert line["error_factor"] < 0.6
    assert fit(made[:40])["lines"] == {}


def test_the_server_reads_what_was_fitted() -> None:
    residuals = rows(60, region="thoracic", fluid="dark", geometric=0.6, cnn=0.3)
    content = {"format": FORMAT, "segmentation_sha256": "a", "measurement_sha256": "b", "phantoms": 5,
               "discs": 60, **fit(residuals)}  # fmt: skip
    table = Calibration.of_networks(content, segmentation_sha256="a", measurement_sha256="b")
    assert table is not None
    spread = table.spread("height_mean", level="T7", dark=True)
    assert (spread.geometric, spread.cnn) == (pytest.approx(0.6), pytest.approx(0.3))
    assert "height_mean" in summary(content)
