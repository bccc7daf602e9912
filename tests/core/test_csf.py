"""Disc signal over fluid, against the phantom's own tissues in the same image."""

from functools import cache

import numpy as np
import pytest

from spinecore.csf import (
    DARK_FLUID,
    FLUID_REACH_MM,
    MIDSAGITTAL_MM,
    NO_FLUID,
    disc_signal,
    fluid_is_dark,
)
from spinecore.disc_frame import DiscFrame
from spinecore.frame_fit import Neighbours
from spinecore.geometry import index_to_lps
from spinecore.phantom import AnatomyGrid, PhantomConfig, draw_anatomy, draw_image
from spinecore.phantom.intensities import block_centre
from spinecore.phantom.tissues import Tissue

FOV = {"lumbar": (190.0, 130.0, 60.0), "cervical": (140.0, 120.0, 50.0)}


@cache
def anatomy(region: str, seed: int = 920_040) -> AnatomyGrid:
    config = PhantomConfig(seed=seed, region=region, spacing_mm=(1.2, 1.2, 1.2), orientation="LPS",
                           fov_mm=FOV[region], oblique_deg=0)  # fmt: skip
    return draw_anatomy(config)


def neighbours(disc: int) -> Neighbours:
    return Neighbours(disc=disc, upper=disc - 100, lower=26 if disc == 124 else disc - 99)


def signals(patient: AnatomyGrid, image: np.ndarray) -> list[tuple[float | None, str | None, float]]:
    """Ours, our reason, and the true ratio of every complete disc."""
    acquisition = patient.acquisition
    tissue = acquisition.to_array(block_centre(patient.tissue, acquisition.subslices))
    labels, affine = patient.acquired_labels, acquisition.affine
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in labels.shape), indexing="ij")[::-1], axis=-1)
    rows = []
    for truth in patient.truth.discs:
        if not truth.complete:
            continue
        frame = DiscFrame(truth.centroid_lps_mm, *truth.frame)
        s, _, aside = np.moveaxis(frame.from_lps(index_to_lps(affine, grid)), -1, 0)
        middle = np.abs(aside) <= MIDSAGITTAL_MM
        fluid = image[middle & (tissue == Tissue.CSF) & (np.abs(s) <= FLUID_REACH_MM)].mean()
        ours = disc_signal(image, labels, affine, neighbours(truth.label), frame)
        rows.append((ours.value, ours.reason, float(image[middle & (labels == truth.label)].mean() / fluid)))
    return rows


@pytest.mark.parametrize("region", ["lumbar", "cervical"])
def test_in_t2_the_ratio_is_that_of_the_tissues(region: str) -> None:
    patient = anatomy(region)
    for contrast in ("t2", "fatsat"):
        image, _ = draw_image(patient, contrast, np.random.default_rng(3))
        rows = signals(patient, image)
        assert len(rows) >= 5
        for ours, _, true in rows:
            assert ours == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("region", ["lumbar", "cervical"])
def test_in_t1_there_is_no_value_and_a_reason(region: str) -> None:
    patient = anatomy(region)
    image, _ = draw_image(patient, "t1", np.random.default_rng(3))
    assert {(ours, reason) for ours, reason, _ in signals(patient, image)} == {(None, DARK_FLUID)}


def test_without_a_canal_there_is_no_value() -> None:
    patient = anatomy("lumbar")
    image, _ = draw_image(patient, "t2", np.random.default_rng(3))
    labels = np.where(patient.acquired_labels == 61, 0, patient.acquired_labels)
    truth = next(d for d in patient.truth.discs if d.complete)
    frame = DiscFrame(truth.centroid_lps_mm, *truth.frame)
    ours = disc_signal(image, labels, patient.acquisition.affine, neighbours(truth.label), frame)
    assert (ours.value, ours.reason) == (None, NO_FLUID)


def test_the_majority_of_the_discs_that_tell_says_whether_fluid_is_dark() -> None:
    bright, dark, none = (
        {"signal_to_csf": {"value": value, "reason": reason}}
        for value, reason in ((0.6, None), (None, DARK_FLUID), (None, NO_FLUID))
    )
    assert fluid_is_dark([dark, dark, bright, none, none])
    assert not fluid_is_dark([dark, bright, none])
    assert not fluid_is_dark([none]) and not fluid_is_dark([])
