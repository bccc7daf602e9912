"""Scores of an analysis: perfect answers score perfectly, known mistakes cost what they should."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spine_training.accuracy import misses, table
from spine_training.evaluation.cases import Case, case_of_phantom, held_out_config, held_out_kind
from spine_training.evaluation.reference import Reference, reference_of_phantom
from spine_training.evaluation.robustness import STRESSES, gamma, noisy, swaying, thick, turned
from spine_training.evaluation.scoring import (
    CaseScore,
    dice_of_groups,
    dice_of_structures,
    joint_counts,
    main_overlap,
    score_case,
    score_names,
)
from spine_training.evaluation.statistics import calibration, error_figures, summarise, tables
from spinecore.findings import identify
from spinecore.geometry import Volume, index_to_lps
from spinecore.phantom import Phantom, make_phantom
from spinecore.report import build_report

MODEL = {"name": "m", "version": "1", "sha256": "", "trained_on": "test"}


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(held_out_config(0))


@pytest.fixture(scope="module")
def reference(phantom: Phantom) -> Reference:
    return reference_of_phantom(phantom)


@pytest.fixture(scope="module")
def answer(phantom: Phantom) -> Any:
    """What a server with a perfect network and a CNN that is always 2 mm too high would answer."""
    found = identify(phantom.classes, Volume(phantom.image[None], phantom.affine))
    truth = {disc.label: disc for disc in phantom.truth.discs}
    rows, canal = [], []
    for disc in found.document["discs"]:
        true = truth[disc["label"]]
        rows.append([true.anterior_mm, true.middle_mm, true.posterior_mm, true.mean_mm])
        canal.append([true.canal_ap_mm])
    report = build_report(
        found.document,
        heights_mm=np.array(rows) + 2.0,
        canal_ap_mm=np.array(canal) + 2.0,
        models={"segmentation": MODEL, "measurement": MODEL},
    )
    for disc in report["discs"]:  # what is reported, and how sure of it, is the server's; here: the CNN's
        heights, ap = disc["height_mm"], disc["canal_ap_mm"]
        heights["reported"], ap["reported"] = heights["cnn"], ap["cnn"]
        same = dict.fromkeys(("anterior", "middle", "posterior", "mean"), 1.0)
        heights["standard_error_mm"] = {"geometric": None, "cnn": None, "reported": same}
        ap["standard_error_mm"] = {"geometric": None, "cnn": None, "reported": 4.0}
    return SimpleNamespace(labels=found.labels, to_dict=lambda: report, elapsed_s=1.5)


@pytest.fixture(scope="module")
def score(reference: Reference, answer: Any) -> CaseScore:
    return score_case(reference, answer, case="x", groups=("lumbar",))


def test_a_perfect_segmentation_meets_every_target_but_that_of_the_poor_cnn(score: CaseScore) -> None:
    summary = summarise([score])
    assert summary["dice"]["body"] > 0.999 and summary["dice"]["canal"] > 0.999
    assert summary["names"]["precision"] == 1.0 and summary["names"]["recall"] == 1.0
    assert summary["names"]["unnamed_share"] == 0.0
    assert summary["mse_mm2"]["geometric"]["height_mean"] < 0.1
    assert summary["mse_mm2"]["cnn"]["height_mean"] == pytest.approx(4.0, abs=0.05)
    assert summary["errors_mm"]["cnn"]["canal_ap"]["mean_mm"] == pytest.approx(2.0, abs=0.01)
    missed = [m.split()[0] for m in misses(summary)]
    assert missed == ["mse_mm2.reported.height_mean", "mse_mm2.reported.canal_ap"]
    assert "1.500 s each" in table(summary)


def test_the_papers_tables_hold_every_level(score: CaseScore) -> None:
    made = tables([score])
    dice = {row["structure"]: row for row in made["dice"] if row["region"] == "lumbar"}
    assert dice["L3"]["paper"] == 0.92 and dice["L3"]["dice"] > 0.999 and dice["L3"]["n"] == 1
    errors = {row["level"]: row for row in made["errors"] if row["region"] == "lumbar"}
    assert errors["L4/L5"]["paper_mse_mm2"] == 1.4
    assert errors["L4/L5"]["reported"]["mse_mm2"] == pytest.approx(4.0, abs=0.05)
    naming = {row["level"]: row for row in made["naming"]}
    assert naming["L4/L5"]["paper"] == (98.3, 97.7)
    assert naming["L4/L5"]["precision"] == naming["L4/L5"]["recall"] == naming["L4/L5"]["detected"] == 100.0
    assert naming["C3/C4"]["precision"] is None and naming["C3/C4"]["true"] == 0
    assert naming["canal AP"]["precision"] < 100.0  # 2 mm too wide, some a rounding more


def test_standard_errors_that_are_too_small_show(score: CaseScore) -> None:
    rows = {(row["quantity"], row["method"]): row for row in calibration([score])}
    small, large = rows["height_mean", "reported"], rows["canal_ap", "reported"]
    assert small["ratio"] == pytest.approx(2.0, abs=0.05) and small["within_1"] == 0.0
    assert large["ratio"] == pytest.approx(0.5, abs=0.05) and large["within_1"] == 1.0
    assert ("height_mean", "cnn") not in rows


def test_names_shifted_by_one_level_are_all_wrong(phantom: Phantom, reference: Reference) -> None:
    named = [int(label) for label in np.unique(phantom.labels) if 19 <= label <= 24]
    shifted = phantom.labels.copy()
    for label in named:
        shifted[phantom.labels == label] = label - 1
    joint = joint_counts(reference, shifted)
    score, wrong = score_names(joint, [label - 1 for label in named], reference)
    assert score.right == 0 and score.named == len(named) == len(wrong)
    assert "L4 is L5" in wrong
    bodies = [s.dice for s in dice_of_structures(joint, named=True) if s.kind == "body" and s.level != "T11"]
    assert min(bodies) > 0.4  # overlap is judged under any name


def test_unnamed_levels_cost_recall_but_not_precision(phantom: Phantom, reference: Reference) -> None:
    score, wrong = score_names(joint_counts(reference, phantom.labels), [24, 26], reference)
    assert (score.named, score.right, wrong) == (2, 2, [])
    assert score.recalled < score.expected


@pytest.mark.parametrize(
    ("c2", "c3", "sacrum", "l5", "anchor", "edge"),
    [
        (900, 800, 0, 0, True, False),
        (700, 800, 0, 0, False, True),  # without its dens it may be any cervical vertebra
        (150, 0, 0, 0, False, False),  # not even an edge
        (0, 0, 500, 900, True, False),  # S1 is enough
        (0, 0, 300, 900, False, True),
        (300, 800, 500, 900, True, False),
    ],
)
def test_an_anchor_is_in_view_with_enough_to_be_told(
    c2: int, c3: int, sacrum: int, l5: int, anchor: bool, edge: bool
) -> None:
    voxels = np.repeat(np.array([2, 3, 26, 24, 0], np.uint8), [c2, c3, sacrum, l5, 4000])[:4000]
    shown = labelled(voxels.reshape(10, 20, 20))
    assert (shown.has_anchor, shown.has_edge_of_anchor) == (anchor, edge)


def test_levels_with_only_an_edge_of_an_anchor_are_counted_apart(
    phantom: Phantom, reference: Reference
) -> None:
    labels = phantom.labels.copy()
    sacrum = np.flatnonzero(labels == 26)
    labels.ravel()[sacrum[250:]] = 0
    edge = replace(reference, labels=labels)
    score, _ = score_names(joint_counts(edge, labels), [24], edge)
    assert (score.expected, score.recalled, score.edge_recalled) == (0, 0, 1)
    assert score.edge_expected == score_names(joint_counts(reference, labels), [24], reference)[0].expected


def labelled(voxels: Any, **fields: Any) -> Reference:
    return Reference(voxels, (), (), **fields)


def test_dice_by_hand() -> None:
    true, found = np.zeros((10, 10, 10), np.uint8), np.zeros((10, 10, 10), np.uint8)
    true[:4], found[2:6] = 24, 71  # 400 voxels each, 200 shared; an unnamed body is a body
    scores = dice_of_groups(joint_counts(labelled(true), found))
    assert scores["body"] == pytest.approx(0.5)
    assert scores["disc"] is None


def test_ignored_voxels_count_for_neither_side() -> None:
    true, found = np.zeros((10, 10, 10), np.uint8), np.zeros((10, 10, 10), np.uint8)
    true[:4], found[:5] = 24, 24
    endplates = np.zeros(true.shape, bool)
    endplates[4] = True
    assert dice_of_groups(joint_counts(labelled(true, ignored=endplates), found))["body"] == 1.0
    assert dice_of_groups(joint_counts(labelled(true), found))["body"] == pytest.approx(800 / 900)


def test_main_overlap_needs_half_of_the_voxels() -> None:
    counts = np.zeros(256, np.int64)
    counts[0], counts[24] = 60, 40
    assert main_overlap(counts, [23, 24]) is None
    counts[0] = 0
    assert main_overlap(counts, [23, 24]) == 24
    assert main_overlap(counts, []) is None


def test_error_figures_by_hand() -> None:
    figures = error_figures([1.0, -1.0, 3.0])
    assert figures["mse_mm2"] == pytest.approx(11 / 3) and figures["mean_mm"] == 1.0
    assert figures["high_mm"] == pytest.approx(1.0 + 1.96 * 2.0)
    assert error_figures([])["mse_mm2"] is None and error_figures([1.0])["low_mm"] is None


def test_held_out_phantoms_take_turns() -> None:
    configs = [held_out_config(i) for i in range(18)]
    assert len({(c.region, c.contrast, held_out_kind(i)) for i, c in enumerate(configs)}) == 18
    assert min(c.seed for c in configs) == 900_000
    assert all(3.3 <= c.spacing_mm[0] <= 4.4 for c in configs if c.orientation == "PIR")
    assert {c.disc_degeneration for i, c in enumerate(configs) if held_out_kind(i) == "degenerated"} == {0.8}
    sixty = [held_out_config(i) for i in range(60)]
    assert [sum(c.region == r for c in sixty) for r in ("lumbar", "cervical", "thoracic")] == [20, 20, 20]
    assert held_out_config(0, contrast="random").seed == 950_000


def test_nothing_found_is_a_miss_not_a_crash(reference: Reference, answer: Any) -> None:
    empty = {**answer.to_dict(), "vertebrae": [], "discs": []}
    nothing = SimpleNamespace(labels=np.zeros_like(answer.labels), to_dict=lambda: empty, elapsed_s=1.0)
    summary = summarise([score_case(reference, nothing, case="x")])
    assert summary["dice"]["body"] == 0.0 and summary["names"]["precision"] is None
    assert len(misses(summary)) == 7
    assert tables([])["dice"][0]["dice"] is None


@pytest.fixture(scope="module")
def case(phantom: Phantom) -> Case:
    return case_of_phantom(phantom, "isotropic")


def test_thicker_slices_keep_every_place(case: Case) -> None:
    made = thick(case, 4.0)
    assert made is not None
    spacing = np.linalg.norm(case.affine[:3, :3], axis=0)
    thicker = np.linalg.norm(made.affine[:3, :3], axis=0)
    axis = int(np.argmax(thicker / spacing))
    block = round(4.0 / spacing[axis])
    assert thicker[axis] == pytest.approx(block * spacing[axis])
    assert made.image.shape == made.reference.labels.shape
    first = index_to_lps(case.affine, np.eye(3)[axis] * (block - 1) / 2)
    np.testing.assert_allclose(index_to_lps(made.affine, [0, 0, 0]), first, atol=1e-9)
    assert thick(made, 2.0) is None


def test_a_turned_case_is_turned_about_its_middle(case: Case) -> None:
    made = turned(case, 20.0)
    middle = tuple(n // 2 for n in case.image.shape)
    assert made.image.shape == case.image.shape
    assert abs(float(made.image[middle]) - float(case.image[middle])) < 0.5 * float(case.image.std())
    true = sum(d.complete for d in case.reference.discs)
    assert 0 < sum(d.complete for d in made.reference.discs) <= true
    same = turned(case, 0.0)
    np.testing.assert_array_equal(same.reference.labels, case.reference.labels)


def test_noise_and_contrast_change_what_they_should(case: Case) -> None:
    noise = noisy(case, 0.1).image - case.image
    assert noise.std() == pytest.approx(0.1 * np.percentile(case.image, 99), rel=0.02)
    inverted = gamma(case, -1.0).image
    assert np.corrcoef(inverted.ravel(), case.image.ravel())[0, 1] < -0.9
    names = ["noise", "slice thickness", "contrast", "rotation", "motion"]
    assert [stress.name for stress in STRESSES] == names


def test_who_swings_smears_along_head_to_foot_and_stays_where_he_is(case: Case) -> None:
    still, swung = swaying(case, 0.0).image, swaying(case, 3.0).image
    np.testing.assert_allclose(still, case.image, atol=0.01 * case.image.max())
    axis = next(a for a in range(3) if abs(case.affine[2, 2 - a]) == np.abs(case.affine[2, :3]).max())
    sums = [image.astype(np.float64).sum(axis=axis) for image in (case.image, swung)]
    assert np.corrcoef(sums[0].ravel(), sums[1].ravel())[0, 1] > 0.99  # nothing went across
    assert 0.5 < np.corrcoef(case.image.ravel(), swung.ravel())[0, 1] < 0.999
