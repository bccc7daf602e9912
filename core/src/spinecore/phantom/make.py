"""Puts a phantom together: anatomy once, any number of images of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from spinecore.phantom.acquisition import Acquisition, draw_acquisition, patient_spacing
from spinecore.phantom.canal import draw_canal
from spinecore.phantom.canvas import blank_canvas
from spinecore.phantom.column import draw_column
from spinecore.phantom.config import Contrast, Flaw, PhantomConfig
from spinecore.phantom.contrast import draw_contrast
from spinecore.phantom.flaws import FLAWS
from spinecore.phantom.grid import F32, U8
from spinecore.phantom.intensities import block_centre, level_gains, synthesise
from spinecore.phantom.posterior import paint_arches
from spinecore.phantom.soft_tissue import paint_head_and_skin, paint_soft_tissue
from spinecore.phantom.spine import paint_spine
from spinecore.phantom.tissues import CLASS_OF_TISSUE
from spinecore.phantom.truth import PhantomTruth, measure_truth
from spinecore.phantom.variants import draw_variant

_ANATOMY_STREAM, _ACQUISITION_STREAM, _PAINT_STREAM, _IMAGE_STREAM, _VARIANT_STREAM, _FLAW_STREAM = range(6)


@dataclass(frozen=True)
class AnatomyGrid:
    """One patient in one field of view, before any image is taken.

    `tissue` and `labels` (Z, Y, X) uint8 are in the patient's axes, finer than the acquisition along thick
    axes; `gains` (256,) is the brightness of each label beside its like.
    """

    config: PhantomConfig
    acquisition: Acquisition
    tissue: U8
    labels: U8
    gains: F32
    truth: PhantomTruth

    @property
    def acquired_labels(self) -> U8:
        """(Z, Y, X) uint8 VerSe-numbered labels on the acquired grid and axes."""
        return cast(U8, self.acquisition.to_array(block_centre(self.labels, self.acquisition.subslices)))

    @property
    def acquired_classes(self) -> U8:
        """(Z, Y, X) uint8 `spinecore.labels.Class` on the acquired grid and axes."""
        centre = block_centre(self.tissue, self.acquisition.subslices)
        return cast(U8, self.acquisition.to_array(CLASS_OF_TISSUE[centre]))


@dataclass(frozen=True)
class Phantom:
    """An MR-like volume with everything that is true of it.

    `image` (Z, Y, X) int16, `classes` (Z, Y, X) uint8 of `spinecore.labels.Class`, `labels` (Z, Y, X) uint8
    with VerSe numbers (bodies, discs 100 + N, canal 61, sacrum 26), `affine` (4, 4) float64 index (x, y, z,
    1) -> LPS mm, `config` with every drawn choice (region, contrast, spacing, orientation) filled in; it
    gives the same phantom.
    """

    image: NDArray[np.int16]
    classes: U8
    labels: U8
    affine: NDArray[np.float64]
    truth: PhantomTruth
    config: PhantomConfig


def _stream(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, stream])


def draw_anatomy(config: PhantomConfig) -> AnatomyGrid:
    """Draw a patient and a field of view; the slow part."""
    rng = _stream(config.seed, _ANATOMY_STREAM)
    column = draw_column(rng, config, draw_variant(_stream(config.seed, _VARIANT_STREAM), config))
    canal = draw_canal(rng, column)
    acquisition = draw_acquisition(_stream(config.seed, _ACQUISITION_STREAM), column, config)
    canvas = blank_canvas(column, canal, acquisition.fine)
    paint = _stream(config.seed, _PAINT_STREAM)
    paint_soft_tissue(paint, canvas)
    paint_arches(paint, canvas)
    paint_spine(paint, canvas)
    paint_head_and_skin(paint, canvas)
    truth = measure_truth(column, canal, canvas.labels, acquisition.view)
    return AnatomyGrid(config, acquisition, canvas.tissue, canvas.labels, level_gains(canvas), truth)


def draw_image(
    anatomy: AnatomyGrid, contrast: Contrast | None = None, rng: np.random.Generator | None = None
) -> tuple[NDArray[np.int16], Contrast]:
    """Take an image (Z, Y, X) int16 of a patient; without `rng` the one that belongs to the seed.

    Returns the image on the acquired grid and axes, and the contrast that was used.
    """
    source = rng if rng is not None else _stream(anatomy.config.seed, _IMAGE_STREAM)
    drawn = draw_contrast(source)
    used = contrast or anatomy.config.contrast or drawn
    acquisition = anatomy.acquisition
    x, y, z = patient_spacing(acquisition.spacing_mm, acquisition.orientation)
    image = synthesise(
        source, used, anatomy.tissue, anatomy.labels, anatomy.gains, acquisition.subslices, (z, y, x),
        artefacts_on=anatomy.config.artefacts, flaw=_draw_flaw(anatomy.config),
    )  # fmt: skip
    return acquisition.to_array(image), used


def _draw_flaw(config: PhantomConfig) -> Flaw | None:
    rng = _stream(config.seed, _FLAW_STREAM)
    drawn = list(FLAWS)[int(rng.integers(len(FLAWS)))]
    return config.flaw or (drawn if rng.random() < config.spoiled else None)


def make_phantom(config: PhantomConfig) -> Phantom:
    """Draw anatomy and image of `config`; equal configurations give equal phantoms."""
    anatomy = draw_anatomy(config)
    image, contrast = draw_image(anatomy)
    acquisition = anatomy.acquisition
    filled = replace(
        config, region=acquisition.region, contrast=contrast, spacing_mm=acquisition.spacing_mm,
        orientation=acquisition.orientation,
    )  # fmt: skip
    return Phantom(
        image, anatomy.acquired_classes, anatomy.acquired_labels, acquisition.affine, anatomy.truth, filled
    )
