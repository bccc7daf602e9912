"""From tissues to an MR image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spinecore.labels import CANAL, DISC_OFFSET, SACRUM, Class
from spinecore.phantom import artefacts
from spinecore.phantom.canvas import Canvas
from spinecore.phantom.config import Contrast, Flaw
from spinecore.phantom.contrast import draw_look
from spinecore.phantom.flaws import FLAWS
from spinecore.phantom.grid import F32, U8
from spinecore.phantom.tissues import CLASS_OF_TISSUE


def level_gains(canvas: Canvas) -> F32:
    """(256,) float32 brightness of each label beside its like: marrow and discs differ from level to
    level."""
    gains = np.ones(256, np.float32)
    for vertebra in canvas.column.vertebrae:
        if vertebra.label != SACRUM:
            gains[vertebra.label] = vertebra.gain
    for disc in canvas.column.discs:
        upper = canvas.column.vertebrae[disc.index + 1].label
        if upper != SACRUM:
            gains[DISC_OFFSET + upper] = disc.gain
    gains[[0, CANAL, SACRUM]] = 1
    return gains


def synthesise(
    rng: np.random.Generator, contrast: Contrast, tissue: U8, labels: U8, gains: F32,
    subslices: tuple[int, int, int], spacing_mm: tuple[float, float, float], *, artefacts_on: bool = True,
    flaw: Flaw | None = None,
) -> NDArray[np.int16]:  # fmt: skip
    """(Z, Y, X) int16 image on the acquired grid, still in the patient's axes.

    `tissue` and `labels` are sampled `subslices` times finer; averaging over them is the partial volume of
    thick slices. `spacing_mm` (z, y, x) belongs to the acquired grid in the patient's axes. A `flaw` is drawn
    from numbers of its own, so that all else stays as it is without.
    """
    look = draw_look(rng, contrast)
    image = block_mean(look.mean[tissue] * gains[labels], subslices)
    centre = block_centre(tissue, subslices)
    image += look.texture[centre] * artefacts.texture(rng, image.shape, spacing_mm)
    image = artefacts.blur(rng, np.maximum(image, 0), spacing_mm)
    if artefacts_on:
        column = (CLASS_OF_TISSUE[centre] != Class.BACKGROUND).any(axis=(0, 2))
        front = int(column.argmax()) if column.any() else len(column)
        image = _scan(rng, image, spacing_mm, column_front=front)
    if flaw is not None:
        image = FLAWS[flaw](rng.spawn(1)[0], image, block_centre(labels, subslices), spacing_mm)
    return _quantise(rng, image)


def _scan(
    rng: np.random.Generator, image: F32, spacing_mm: tuple[float, float, float], *, column_front: int
) -> F32:
    thick = int(np.argmax(spacing_mm))
    if max(spacing_mm) > 2 * min(spacing_mm) and rng.random() < 0.3:
        image = image * artefacts.slice_gain(rng, image.shape, thick)
    late = rng.random() < 0.3
    if not late:
        image = artefacts.add_noise(rng, image)
    if rng.random() < 0.8:
        image = image * artefacts.bias_field(rng, image.shape)
    if rng.random() < 0.25:
        image = image * artefacts.saturation_band(rng, image.shape[1], column_front)
    return artefacts.add_noise(rng, image) if late else image


def _quantise(rng: np.random.Generator, image: F32) -> NDArray[np.int16]:
    """Scale to a scanner's numbers; the brightest fraction of a per cent may clip."""
    image = np.maximum(image, 0)
    top = float(np.percentile(image[::3, ::3, ::2], rng.uniform(98, 99.8))) + 1e-6
    image = np.clip(image / np.float32(top), 0, np.float32(rng.uniform(1.0, 1.6)))
    image = image ** np.float32(np.exp(rng.uniform(-0.3, 0.3)))
    return np.asarray(np.rint(image * np.float32(rng.uniform(300, 1800))), np.int16)


def block_mean(array: F32, parts: tuple[int, int, int]) -> F32:
    """Mean over blocks of `parts` (z, y, x) voxels."""
    for axis, count in enumerate(parts):
        if count > 1:
            shape = list(array.shape)
            shape[axis : axis + 1] = [shape[axis] // count, count]
            array = array.reshape(shape).mean(axis=axis + 1, dtype=np.float32)
    return np.asarray(array, np.float32)


def block_centre(array: U8, parts: tuple[int, int, int]) -> U8:
    """The middle voxel of each block of `parts` (z, y, x) voxels; all parts are odd."""
    return array[tuple(slice(count // 2, None, count) for count in parts)]
