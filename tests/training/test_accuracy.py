"""Scores of an analysis: perfect answers score perfectly, known mistakes cost what they should."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spine_training.accuracy import held_out_config, misses, score_case, summarise, table
from spine_training.scoring import dice_of_groups, main_overlap, score_names
from spinecore.findings import identify
from spinecore.geometry import Volume
from spinecore.phantom import Phantom, make_phantom
from spinecore.report import build_report

MODEL = {"name": "m", "version": "1", "sha256": "", "trained_on": "test"}


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(held_out_config(0))


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
    return SimpleNamespace(labels=found.labels, to_dict=lambda: report, elapsed_s=1.5)


def test_a_perfect_segmentation_meets_every_target_but_that_of_the_poor_cnn(phantom, answer) -> None:
    summary = summarise([score_case(phantom, answer, case="x")])
    assert summary["dice"]["body"] > 0.999 and summary["dice"]["canal"] > 0.999
    assert summary["names"]["precision"] == 1.0 and summary["names"]["recall"] == 1.0
    assert summary["mse_mm2"]["geometric"]["height_mean"] < 0.1
    assert summary["mse_mm2"]["cnn"]["height_mean"] == pytest.approx(4.0, abs=0.05)
    assert summary["bias_mm"]["cnn"]["canal_ap"] == pytest.approx(2.0, abs=0.01)
    assert [m.split()[0] for m in misses(summary)] == ["mse_mm2.cnn.height_mean", "mse_mm2.cnn.canal_ap"]
    assert "1.500 s each" in table(summary)


def test_names_shifted_by_one_level_are_all_wrong(phantom) -> None:
    named = [label for label in np.unique(phantom.labels) if 19 <= label <= 24]
    shifted = phantom.labels.copy()
    for label in named:
        shifted[phantom.labels == label] = label - 1
    score, wrong = score_names(shifted, [label - 1 for label in named], phantom)
    assert score.right == 0 and score.named == len(named) == len(wrong)
    assert "L4 is L5" in wrong


def test_unnamed_levels_cost_recall_but_not_precision(phantom) -> None:
    score, wrong = score_names(phantom.labels, [24, 26], phantom)
    assert (score.named, score.right, wrong) == (2, 2, [])
    assert score.recalled < score.expected


def test_dice_by_hand() -> None:
    true, found = np.zeros((10, 10, 10), np.uint8), np.zeros((10, 10, 10), np.uint8)
    true[:4], found[2:6] = 24, 71  # 400 voxels each, 200 shared; an unnamed body is a body
    scores = dice_of_groups(found, true)
    assert scores["body"] == pytest.approx(0.5)
    assert scores["disc"] is None


def test_main_overlap_needs_half_of_the_mask() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[:4] = 24
    assert main_overlap(np.ones((10, 10), bool), labels, [23, 24]) is None
    assert main_overlap(labels > 0, labels, [23, 24]) == 24


def test_held_out_phantoms_take_turns() -> None:
    configs = [held_out_config(i) for i in range(12)]
    assert len({(c.region, c.contrast, max(c.spacing_mm) > 2) for c in configs}) == 12
    assert min(c.seed for c in configs) == 900_000
    assert all(3.3 <= c.spacing_mm[0] <= 4.4 for c in configs if c.orientation == "PIR")


def test_nothing_found_is_a_miss_not_a_crash(phantom, answer) -> None:
    empty = {**answer.to_dict(), "vertebrae": [], "discs": []}
    nothing = SimpleNamespace(labels=np.zeros_like(answer.labels), to_dict=lambda: empty, elapsed_s=1.0)
    score = replace(score_case(phantom, nothing, case="x"), method="none")
    summary = summarise([score])
    assert summary["dice"]["body"] == 0.0 and summary["names"]["precision"] is None
    assert len(misses(summary)) == 8
