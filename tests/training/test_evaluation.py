"""References from masks, the evaluation's pages, and the model card made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spine_client import InputError
from spine_training.card import refresh, telling_cases, with_blocks
from spine_training.evaluation.cases import Case, CaseSource, case_of_pair, pairs_in
from spine_training.evaluation.command import write_pages
from spine_training.evaluation.reference import (
    FROM_MASKS,
    FROM_SURFACES,
    Reference,
    reference_of_masks,
    reference_of_phantom,
)
from spine_training.evaluation.run import as_json, evaluate
from spine_training.pairs import LabelledVolume, find_pairs
from spine_training.pairs.errors import PairError
from spine_training.pairs.tables import VERSE
from spinecore.findings import identify
from spinecore.geometry import Volume
from spinecore.phantom import Phantom, PhantomConfig, make_phantom
from spinecore.phantom.io import write_nifti, write_truth
from spinecore.report import build_report

MODEL = {"name": "m", "version": "1", "sha256": "0" * 64, "trained_on": "test"}


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    config = PhantomConfig(
        seed=77, region="lumbar", contrast="t2", spacing_mm=(1.5, 1.5, 1.5), fov_mm=(200.0, 120.0, 90.0)
    )
    return make_phantom(config)


def volume_of(phantom: Phantom, *, levels: bool) -> LabelledVolume:
    endplates = np.zeros(phantom.labels.shape, bool)
    return LabelledVolume(
        phantom.image, phantom.affine, phantom.classes, endplates, phantom.labels if levels else None
    )


@pytest.mark.parametrize("levels", [True, False])
def test_reference_masks_measure_what_the_surfaces_say(phantom: Phantom, levels: bool) -> None:
    true = {disc.label: disc for disc in reference_of_phantom(phantom).discs if disc.complete}
    found = reference_of_masks(volume_of(phantom, levels=levels))
    assert found.source == FROM_MASKS and found.named
    measured = {disc.label: disc for disc in found.discs if disc.complete}
    assert len(true) >= 3 and set(true) <= set(measured)
    for label, disc in true.items():
        for quantity in ("height_mean", "canal_ap"):
            ours, theirs = measured[label].values[quantity], disc.values[quantity]
            assert ours is not None and theirs is not None
            assert abs(ours - theirs) < 1.5, (label, quantity)


def test_a_pair_with_its_truth_beside_it_is_judged_by_the_surfaces(phantom: Phantom, tmp_path: Path) -> None:
    write_nifti(phantom, tmp_path / "case")
    (pair,) = find_pairs(tmp_path)
    assert case_of_pair(pair, VERSE).reference.source == FROM_MASKS
    write_truth(phantom, tmp_path / "case.truth.json")
    (pair,) = find_pairs(tmp_path)
    case = case_of_pair(pair, VERSE)
    assert case.reference.source == FROM_SURFACES and case.groups == ("lumbar",)
    np.testing.assert_array_equal(case.reference.labels, phantom.labels)


class PerfectServer:
    """Answers from the true classes; refuses the case called ``bad``. Stands in for the client."""

    def __init__(self, classes: Any) -> None:
        self.classes = classes

    def analyze(self, source: Any, **_: Any) -> Any:
        image, affine = source
        if image.shape != self.classes.shape:
            raise InputError("too_large", "the volume is too large")
        found = identify(self.classes, Volume(np.asarray(image)[None], affine))
        count = len(found.document["discs"])
        report = build_report(
            found.document,
            heights_mm=np.full((count, 4), 9.0),
            canal_ap_mm=np.full((count, 1), 15.0),
            models={"segmentation": MODEL, "measurement": MODEL},
        )
        return SimpleNamespace(labels=found.labels, to_dict=lambda: report, elapsed_s=1.0)


@pytest.fixture(scope="module")
def content(phantom: Phantom) -> dict[str, Any]:
    case = Case("good", phantom.image, phantom.affine, reference_of_phantom(phantom), ("lumbar",))
    odd = replace(case, name="random one", groups=("lumbar", "random"))
    small = Reference(phantom.labels[1:], (), ())
    bad = replace(case, name="bad", image=phantom.image[1:], reference=small)
    source = CaseSource("pairs", (lambda: case, lambda: odd, lambda: bad), "three cases", ("random",))
    done = evaluate(PerfectServer(phantom.classes), source)  # type: ignore[arg-type]
    return as_json(done, source, about={"date": "today"})


def test_a_refused_case_is_listed_and_one_apart_is_not_in_the_whole(content: dict[str, Any]) -> None:
    assert content["failures"] == {"bad": "the volume is too large"}
    assert content["summary"]["cases"] == 1 and content["apart"]["cases"] == 1
    assert content["by_group"]["lumbar"]["cases"] == 2


def test_the_pages_hold_the_tables_and_their_pictures(content: dict[str, Any], tmp_path: Path) -> None:
    text = write_pages(content, tmp_path)
    for wanted in (
        "Table 4",
        "Table 5",
        "Table 6",
        "| lumbar | L4/L5 | 1.4 |",
        "bad: the volume",
        "not a medical",
    ):
        assert wanted in text
    assert "| cervical | C4" not in text  # no case shows the neck
    page = (tmp_path / "evaluation.html").read_text()
    assert page.count("data:image/png;base64,") == text.count("](bland") >= 1
    assert 'src="bland' not in page and "<table>" in page
    kept = json.loads((tmp_path / "evaluation.json").read_text())["summary"]
    assert kept == json.loads(
        json.dumps(content["summary"]), parse_float=lambda text: round(float(text), 5)
    )  # as small files have them


BEFORE = {"summary": "old", "real": "kept"}


def test_the_cards_blocks_change_and_its_prose_stays() -> None:
    blocks = [f"<!-- begin:{name} -->\n{text}\n<!-- end:{name} -->\n" for name, text in BEFORE.items()]
    card = "Prose.\n" + "More.\n".join(blocks)
    made = with_blocks(card, {"summary": "new \\1 {x}", "real": None})
    assert made == card.replace("old", "new \\1 {x}")


def test_every_block_of_the_card_is_known() -> None:
    from spine_training import card

    text = (Path(__file__).resolve().parents[2] / "training" / "MODEL_CARD.md").read_text()
    names = [match[1] for match in card.BLOCK.finditer(text)]
    assert text.count("<!-- begin:") == len(names) == len(set(names)) == 10


def test_the_worst_cases_are_pictured_once(content: dict[str, Any]) -> None:
    good = json.loads(json.dumps(content["cases"][0]))
    poor = {**good, "case": "poor", "dice": {**good["dice"], "body": 0.1}}
    shown = [item.case["case"] for item in telling_cases([good, poor, good | {"case": "third"}])]
    assert len(shown) == len(set(shown)) and "poor" in shown


def test_the_real_crop_is_one_case_without_names(tmp_path: Path) -> None:
    real = Path(__file__).resolve().parents[3] / "shared" / "data" / "labelled_t2"
    if not real.is_dir():
        pytest.skip("needs the real images in ../shared/data")
    source = pairs_in(real, names=False)
    case = source.loaders[0]()
    assert not case.reference.named and case.reference.ignored is not None
    assert int(case.reference.ignored.sum()) == 1891
    assert sum(disc.complete for disc in case.reference.discs) == 2


def test_an_evaluation_of_another_format_is_refused_by_name(tmp_path: Path) -> None:
    old = tmp_path / "accuracy.json"
    old.write_text('{"format": 2}', encoding="utf-8")
    with pytest.raises(PairError, match=r"accuracy\.json was written in format 2"):
        refresh(tmp_path / "card.md", old, images=tmp_path, client=None, real=None)
