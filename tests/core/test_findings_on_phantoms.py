"""Phantoms with perfect segmentations: instances, names and millimetres against the phantoms' own truth.

What is left of the error here is what a label map of that grid cannot say; the network's own error comes on
top (`make accuracy`).
"""

from functools import cache

import numpy as np
import pytest

from spinecore.findings import Findings, identify
from spinecore.geometry import Volume
from spinecore.phantom import Phantom, PhantomConfig, make_phantom

ISOTROPIC, THICK = (1.0, 1.0, 1.0), (4.0, 0.6, 0.6)
CASES = [
    (920_001, "lumbar", ISOTROPIC),
    (920_002, "lumbar", THICK),
    (920_003, "thoracic", ISOTROPIC),
    (920_004, "thoracic", THICK),
    (920_005, "cervical", ISOTROPIC),
    (920_006, "cervical", THICK),
]
Case = tuple[int, str, tuple[float, float, float]]


@cache
def found_in(case: Case) -> tuple[Phantom, Findings]:
    seed, region, spacing = case
    orientation = "PIR" if spacing == THICK else None
    config = PhantomConfig(
        seed=seed, region=region, spacing_mm=spacing, orientation=orientation, artefacts=False
    )
    phantom = make_phantom(config)
    return phantom, identify(phantom.classes, Volume(phantom.image[None], phantom.affine))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_instances_are_those_of_the_phantom(case: Case) -> None:
    phantom, found = found_in(case)
    for label in np.unique(found.labels[found.labels > 0]):
        ours = found.labels == label
        true, counts = np.unique(phantom.labels[ours], return_counts=True)
        assert counts.max() / counts.sum() > 0.99
        assert counts.max() / (phantom.labels == true[counts.argmax()]).sum() > 0.98


@pytest.mark.parametrize("case", [c for c in CASES if c[1] != "thoracic"], ids=str)
def test_every_level_is_named_from_the_anchor(case: Case) -> None:
    phantom, found = found_in(case)
    same = found.labels == phantom.labels
    assert same.mean() > 0.9995
    assert found.document["naming"]["method"] == ("sacrum" if case[1] == "lumbar" else "c2")


@pytest.mark.parametrize("case", [c for c in CASES if c[1] == "thoracic"], ids=str)
def test_a_thoracic_field_of_view_is_left_unnamed(case: Case) -> None:
    _, found = found_in(case)
    assert not found.document["naming"]["named"]
    assert [w["code"] for w in found.document["warnings"] if w["code"] == "levels_unnamed"]


def errors_mm(case: Case) -> np.ndarray:
    """Per complete disc of the truth: error of anterior, middle, posterior and mean height, and canal AP."""
    phantom, found = found_in(case)
    rows = []
    for truth in phantom.truth.discs:
        if not truth.complete:
            continue
        near = min(found.document["discs"], key=lambda d: _distance(d, truth.centroid_lps_mm))
        assert _distance(near, truth.centroid_lps_mm) < 4 and near["complete"], truth.name
        heights = near["height_mm"]["geometric"]
        true = (truth.anterior_mm, truth.middle_mm, truth.posterior_mm, truth.mean_mm, truth.canal_ap_mm)
        ours = [heights[k] for k in ("anterior", "middle", "posterior", "mean")]
        rows.append(np.subtract([*ours, near["canal_ap_mm"]["geometric"]], true))
    return np.array(rows)


def _distance(disc: dict, point: np.ndarray) -> float:
    return float(np.linalg.norm(np.subtract(disc["centroid_lps_mm"], point)))


@pytest.mark.parametrize("spacing", [ISOTROPIC, THICK], ids=str)
def test_measurements_come_close_to_the_truth(spacing: tuple[float, float, float]) -> None:
    errors = np.concatenate([errors_mm(case) for case in CASES if case[2] == spacing])
    assert len(errors) >= 15
    mse = (errors**2).mean(axis=0)
    assert (mse[:3] < 0.2).all(), mse  # each place; the issue asks for 1.3 in all
    assert mse[3] < 0.05, mse
    assert mse[4] < 0.25, mse
    assert np.abs(errors[:, 3]).max() < 0.8
    assert np.abs(errors.mean(axis=0)).max() < 0.25


def canal_errors_mm(case: Case) -> tuple[list[float], list[float]]:
    """Errors of the canal at mid-bodies, and of the smallest AP diameters at bodies and discs."""
    phantom, found = found_in(case)
    at_body, smallest = [], []
    for kind, truths in (("vertebrae", phantom.truth.vertebrae), ("discs", phantom.truth.discs)):
        for truth in truths:
            near = min(found.document[kind], key=lambda d: _distance(d, truth.centroid_lps_mm))
            if not truth.complete or near["canal_min_ap_mm"]["geometric"] is None:
                continue
            assert _distance(near, truth.centroid_lps_mm) < 4, truth.name
            smallest.append(near["canal_min_ap_mm"]["geometric"] - truth.canal_min_ap_mm)
            assert near["canal_min_ap_mm"]["geometric"] <= near["canal_ap_mm"]["geometric"]
            if kind == "vertebrae":
                at_body.append(near["canal_ap_mm"]["geometric"] - truth.canal_ap_mm)
    return at_body, smallest


@pytest.mark.parametrize("spacing", [ISOTROPIC, THICK], ids=str)
def test_the_canal_behind_bodies_and_its_narrowest_places_come_close_to_the_truth(
    spacing: tuple[float, float, float],
) -> None:
    rows = [canal_errors_mm(case) for case in CASES if case[2] == spacing]
    at_body, smallest = (np.concatenate([row[k] for row in rows]) for k in (0, 1))
    assert len(at_body) >= 12 and len(smallest) >= 27
    assert (at_body**2).mean() < 0.25 and np.abs(at_body).max() < 1.5
    assert (smallest**2).mean() < 0.5 and abs(smallest.mean()) < 0.4


def test_a_picture_without_a_spine_gives_no_levels() -> None:
    phantom = make_phantom(PhantomConfig(seed=920_010, region="none"))
    found = identify(phantom.classes, Volume(phantom.image[None], phantom.affine))
    assert found.document["vertebrae"] == [] and not found.labels.any()
