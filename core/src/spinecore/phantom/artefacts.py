"""What the scanner adds: blur, noise, ghosts, coil sensitivity, saturation bands. Arrays (Z, Y, X)
float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from spinecore.phantom.grid import F32, smooth_noise

_CLEAR_OF_BAND = 2.0
"""The band's edge keeps so many of its widths off the column, which it darkens by an eighth there."""


def texture(rng: np.random.Generator, shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> F32:
    """Fine or mixed noise of about unit variance, its grain in mm whatever the spacing."""
    sigma = [rng.uniform(0.7, 3.0) / step for step in spacing_mm]
    fine: F32 = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), [min(s, 4.0) for s in sigma])
    fine /= fine.std() + 1e-6
    if rng.random() < 0.4:
        return fine
    cell = rng.uniform(8, 20)
    coarse = smooth_noise(rng, shape, tuple(max(cell / step, 1.5) for step in spacing_mm))
    return np.asarray(0.6 * fine + 0.8 * coarse, np.float32)


def blur(rng: np.random.Generator, image: F32, spacing_mm: tuple[float, float, float]) -> F32:
    """Point spread of the acquisition: a third of a millimetre to one."""
    width = rng.uniform(0.35, 1.1)
    sigma = [min(width / step, 0.9) for step in spacing_mm]
    thick = max(spacing_mm) > 2 * min(spacing_mm)
    sigma = [
        0.0 if thick and step == max(spacing_mm) else s for s, step in zip(sigma, spacing_mm, strict=True)
    ]
    return np.asarray(gaussian_filter(image, sigma))


def add_noise(rng: np.random.Generator, image: F32) -> F32:
    """Rician noise, now and then correlated, streaky or with a ghost of the image."""
    if rng.random() < 0.1:
        return image
    level = rng.uniform(0, 0.08) * max(2 * float(image.mean()), 0.1)
    parts = [rng.standard_normal(image.shape, dtype=np.float32) for _ in range(2)]
    if rng.random() < 0.4:
        width = rng.uniform(0.3, 1.0)
        parts = [gaussian_filter(part, width) for part in parts]
        scale = 1 / float(parts[0].std())
        parts = [part * np.float32(scale) for part in parts]
    if rng.random() < 0.25:
        parts = [part * _bands(rng, image.shape) for part in parts]
    out = np.sqrt((image + np.float32(level) * parts[0]) ** 2 + (np.float32(level) * parts[1]) ** 2)
    if rng.random() < 0.15:
        out = out + np.roll(image, int(rng.integers(20, 70)), int(rng.integers(2))) * np.float32(
            rng.uniform(0.01, 0.12)
        )
    return np.asarray(out, np.float32)


def _bands(rng: np.random.Generator, shape: tuple[int, ...]) -> F32:
    axis = int(rng.integers(2))
    band = np.abs(gaussian_filter(rng.standard_normal(shape[axis]), rng.uniform(1, 6)))
    view = [-1 if a == axis else 1 for a in range(3)]
    return np.asarray((band / band.mean()).reshape(view), np.float32)


def bias_field(rng: np.random.Generator, shape: tuple[int, ...]) -> F32:
    """Coil sensitivity: smooth variation, mostly brighter posteriorly (y), fading towards the ends (z)."""
    log: NDArray[np.floating[Any]] = smooth_noise(
        rng, shape, tuple(max(size / rng.uniform(2, 5), 1.5) for size in shape)
    )
    log = log * np.float32(rng.uniform(0, 0.4))
    if rng.random() < 0.65:
        y = (np.arange(shape[1], dtype=np.float32) / shape[1])[None, :, None]
        log = (
            log
            + rng.uniform(0, 2.2) * (y - 1)
            + rng.uniform(0, 1.5) * np.clip(y - rng.uniform(0.4, 0.9), 0, 1)
        )
    if rng.random() < 0.4:
        z = (np.arange(shape[0], dtype=np.float32) / shape[0])[:, None, None] - rng.uniform(0.2, 0.8)
        log = log - rng.uniform(0, 4) * z**2
    return np.asarray(np.exp(log), np.float32)


def saturation_band(rng: np.random.Generator, length: int, column_front: int) -> F32:
    """(1, length, 1) factor that darkens the front, as an anterior saturation slab does.

    It ends in front of the column, whose foremost voxel is `column_front`: radiographers lay it over belly
    and throat, and what is saturated no image shows.
    """
    edge, slope = rng.uniform(0, length / 2), rng.uniform(1, 5)
    edge = min(edge, column_front - _CLEAR_OF_BAND * slope)
    rise = 1 / (1 + np.exp(-(np.arange(length) - edge) / slope))
    return np.asarray((rng.uniform(0.05, 0.5) + rise)[None, :, None], np.float32)


def slice_gain(rng: np.random.Generator, shape: tuple[int, ...], axis: int) -> F32:
    """Slices of slightly different brightness, as interleaved 2D series have."""
    view = [-1 if a == axis else 1 for a in range(3)]
    return (1 + rng.uniform(0, 0.1) * rng.standard_normal(shape[axis])).astype(np.float32).reshape(view)
