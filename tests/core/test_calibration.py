"""Standard errors: which row of the table, how two values become one, and when they disagree."""

import copy
import json
import math
from pathlib import Path

import pytest

from spinecore.calibration import DISAGREEMENT_FACTOR, FORMAT, Calibration, Line, Spread, combine
from spinecore.errors import ModelError
from spinecore.patches import DESCRIPTION

ROW = {"geometric": 0.6, "cnn": 0.3, "correlation": 0.0}
TABLE = {
    "format": FORMAT,
    "segmentation_sha256": "a",
    "measurement_sha256": "b",
    "phantoms": 3,
    "discs": 20,
    "spread_mm": {
        "canal_ap": {
            "lumbar": {"bright": ROW, "dark": {**ROW, "geometric": 1.2}},
            "any": {"bright": {**ROW, "cnn": 0.9}},
        },
        "body_canal_ap": {"lumbar": {"bright": {"geometric": 0.7}}},
    },
    "flag_factors": {"cut_at_the_side": 2.0},
    "lines": {"canal_ap": {"slope": 1.1, "offset_mm": -0.4, "error_factor": 0.9}},
}


def read(table: dict, *, segmentation: str = "a", measurement: str = "b") -> Calibration | None:
    return Calibration.of_networks(table, segmentation_sha256=segmentation, measurement_sha256=measurement)


def test_the_row_is_that_of_region_and_fluid() -> None:
    table = read(TABLE)
    assert table.spread("canal_ap", level="L4", dark=True).geometric == 1.2
    assert table.spread("canal_ap", level=None, dark=False).cnn == 0.9
    assert table.spread("canal_ap", level="T4", dark=False) is None
    assert table.spread("body_canal_ap", level="L4", dark=False) == Spread(0.7)
    assert table.spread("canal_ap", level="L4", dark=True).line == Line(1.1, -0.4, 0.9)
    assert table.spread("body_canal_ap", level="L4", dark=False).line == Line()


def test_a_flag_widens_both_errors() -> None:
    plain = read(TABLE).spread("canal_ap", level="L4", dark=False)
    flagged = read(TABLE).spread("canal_ap", level="L4", dark=False, flags=("cut_at_the_side", "other"))
    assert (flagged.geometric, flagged.cnn) == (2 * plain.geometric, 2 * plain.cnn)


@pytest.mark.parametrize("other", [{"segmentation": "x"}, {"measurement": "x"}])
def test_a_table_of_other_networks_is_not_used(other: dict[str, str]) -> None:
    assert read(TABLE, **other) is None and read(None) is None
    assert read({**TABLE, "format": 1}) is None


def test_a_network_of_patches_cut_otherwise_is_refused_with_or_without_a_table(tmp_path: Path) -> None:
    file, models = (
        tmp_path / "measure.json",
        {"segmentation": {"sha256": "a"}, "measurement": {"sha256": "b"}},
    )
    cut = dict(DESCRIPTION)
    file.write_text(json.dumps(cut | {"calibration": TABLE}))
    assert Calibration.load(file, models) == read(TABLE)
    for table in ({}, {"calibration": TABLE}):
        file.write_text(json.dumps(cut | {"patch_spacing_mm": [1.0, 1.0, 1.0]} | table))
        with pytest.raises(ModelError, match="Train it again"):
            Calibration.load(file, models)


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t.pop("spread_mm"),
        lambda t: t["spread_mm"]["canal_ap"]["any"].update(bright={"geometric": 0.0}),
        lambda t: t["spread_mm"]["canal_ap"]["any"].update(bright={"geometric": float("nan")}),
        lambda t: t["spread_mm"].update(canal_ap=3),
        lambda t: t.update(flag_factors=None),
        lambda t: t["lines"]["canal_ap"].update(slope=0.0),
    ],
)
def test_a_damaged_table_is_refused(damage) -> None:
    table = copy.deepcopy(TABLE)
    damage(table)
    with pytest.raises(ModelError, match=r"measure\.json"):
        read(table)


def test_independent_values_are_weighted_by_their_inverse_variances() -> None:
    both = combine(10.0, 11.0, Spread(0.6, 0.3))
    assert both.mm == pytest.approx(10.8)  # weights 1 : 4
    assert both.standard_error_mm == pytest.approx(math.sqrt(1 / (1 / 0.36 + 1 / 0.09)))
    assert not both.disagree


def test_what_is_wrong_in_both_alike_is_not_averaged_away() -> None:
    apart, together = combine(10.0, 10.2, Spread(0.5, 0.5)), combine(10.0, 10.2, Spread(0.5, 0.5, 0.9))
    assert together.mm == apart.mm == pytest.approx(10.1)
    assert apart.standard_error_mm == pytest.approx(0.5 / math.sqrt(2))
    assert together.standard_error_mm == pytest.approx(0.5 * math.sqrt(0.95))


def test_the_worse_of_two_that_err_together_has_no_say() -> None:
    both = combine(10.0, 11.0, Spread(1.0, 0.5, 0.9))
    assert (both.mm, both.standard_error_mm) == (11.0, 0.5)


@pytest.mark.parametrize("beyond", [-0.01, 0.01])
def test_values_disagree_beyond_the_stated_factor_of_their_difference_s_error(beyond: float) -> None:
    distance = DISAGREEMENT_FACTOR * 0.5 + beyond  # 0.3 and 0.4 make 0.5
    both = combine(10.0, 10.0 + distance, Spread(0.3, 0.4))
    assert both.disagree == (beyond > 0)
    assert both.standard_error_mm == pytest.approx(distance / 2 if beyond > 0 else 0.24)


def test_both_combined_are_put_on_the_line_of_the_truth() -> None:
    """A table without lines, as they were, leaves them; no length falls below nothing."""
    plain, bent = Spread(0.6, 0.3), Spread(0.6, 0.3, line=Line(1.1, -0.4, 0.9))
    assert combine(10.0, 11.0, bent).mm == pytest.approx(1.1 * 10.8 - 0.4)
    error = combine(10.0, 11.0, plain).standard_error_mm
    assert combine(10.0, 11.0, bent).standard_error_mm == pytest.approx(0.9 * error)
    assert combine(0.2, 0.2, bent).mm == 0.0
    assert combine(10.0, None, bent).mm == 10.0
    without = copy.deepcopy(TABLE)
    del without["lines"]
    assert read(without).spread("canal_ap", level="L4", dark=True).line == Line()


def test_one_value_alone_is_reported_with_its_own_error() -> None:
    assert combine(10.0, None, Spread(0.6, 0.3)).standard_error_mm == 0.6
    assert combine(None, 9.0, Spread(0.6, 0.3)).mm == 9.0
    assert combine(None, None, Spread(0.6, 0.3)) is None
    without = combine(10.0, 12.0, None)
    assert (without.mm, without.standard_error_mm, without.disagree) == (10.0, None, False)
