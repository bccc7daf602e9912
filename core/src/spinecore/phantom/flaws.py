"""What spoils an image: a patient who moves, screws of metal, signal that is missing.

Arrays (Z, Y, X) in the patient's axes: z cranial, y posterior, x left. `labels` are VerSe numbers on the
image's grid. What is true of the anatomy stays true: a vertebra with a screw in it is a vertebra.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from spinecore.labels import DISC_OFFSET, SACRUM
from spinecore.phantom.config import Flaw
from spinecore.phantom.grid import F32, U8

Spacing = tuple[float, float, float]
Point = NDArray[np.float64]

_SCREWED_MM3: Final = 2000.0
"""Of what is smaller only an edge is in view."""
_EDGE_MM: Final = 1.0


def motion(rng: np.random.Generator, image: F32, labels: U8, spacing_mm: Spacing) -> F32:
    """Ghosts and smear of a patient who breathes, and half the time shifts once as well."""
    axis = int(rng.integers(2))
    reach = rng.uniform(0.5, 2.5) / spacing_mm[axis]
    return moved(
        image, axis, reach=reach, cycles=rng.uniform(3, 15), phase=rng.uniform(0, 2 * np.pi),
        jump=float(rng.normal(0, reach)) if rng.random() < 0.5 else 0.0, jump_at=rng.uniform(0.6, 0.95),
    )  # fmt: skip


def moved(
    image: F32,
    axis: int,
    *,
    reach: float,
    cycles: float,
    phase: float,
    jump: float = 0.0,
    jump_at: float = 1.0,
) -> F32:
    """The image of what moves along the phase-encoding `axis` while its lines are taken one after another.

    It swings by `reach` voxels, `cycles` times within the acquisition, and moves on by `jump` voxels after
    the share `jump_at` of it. Where it lies while the middle of k-space is taken is where it is seen; its
    ghosts lie about `cycles` voxels off (Wood and Henkelman 1985).
    """
    count = image.shape[axis]
    lines = np.arange(count) - count // 2  # in the order in which they are taken
    time = np.arange(count) / count
    place = reach * np.sin(2 * np.pi * cycles * time + phase) + jump * (time > jump_at)
    place = place - place[count // 2]
    turn = np.exp(-2j * np.pi * lines * place / count).astype(np.complex64)
    view = [-1 if a == axis else 1 for a in range(3)]
    spectrum = fft.fft(image.astype(np.float32), axis=axis) * fft.ifftshift(turn).reshape(view)
    return np.asarray(np.abs(fft.ifft(spectrum, axis=axis)), np.float32)


def metal(rng: np.random.Generator, image: F32, labels: U8, spacing_mm: Spacing) -> F32:
    """Pedicle screws in up to three neighbouring bodies: no signal in and round them, some of it beside."""
    step = np.array(spacing_mm)
    bodies = [
        number
        for number in np.unique(labels[(labels > 0) & (labels < DISC_OFFSET)])
        if number < SACRUM and (labels == number).sum() * step.prod() > _SCREWED_MM3
    ]
    if not bodies:
        return image
    image = image.copy()
    first, count = int(rng.integers(len(bodies))), int(rng.integers(1, 4))
    bloom, side_of_pile, bright = rng.uniform(1.5, 3.0), rng.choice([-1.0, 1.0]), np.percentile(image, 95)
    for number in bodies[first : first + count]:
        voxels = np.argwhere(labels == number) * step
        centre, depth = voxels.mean(axis=0), float(np.ptp(voxels[:, 1]))
        for left in (-1.0, 1.0):
            head = centre + np.array([0.0, depth / 2 + 25.0, left * rng.uniform(11, 15)])
            tip = centre + np.array([0.0, -0.2 * depth, left * rng.uniform(4, 8)])
            radius = rng.uniform(2.0, 3.0) * bloom
            _screw(image, head / step, tip / step, step, radius, side_of_pile * bright)
    return image


def _screw(image: F32, head: Point, tip: Point, step: Point, radius_mm: float, pile: float) -> None:
    """Take the signal within `radius_mm` of the line from `head` to `tip` (voxels), put `pile` beside it."""
    reach = 2.5 * radius_mm / step
    low = np.maximum(np.floor(np.minimum(head, tip) - reach), 0).astype(int)
    high = np.minimum(np.ceil(np.maximum(head, tip) + reach) + 1, image.shape).astype(int)
    if np.any(high <= low):
        return
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    axes = [(np.arange(a, b) - h) * s for a, b, h, s in zip(low, high, head, step, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    line = (tip - head) * step
    along = np.clip(places @ line / (line @ line), 0, 1)
    away = places - along[..., None] * line
    distance = np.linalg.norm(away, axis=-1)
    kept = 1 / (1 + np.exp(-np.clip((distance - radius_mm) / _EDGE_MM, -30, 30)))
    beside = np.clip(np.sign(pile) * away[..., 1] / np.maximum(distance, 1e-3), 0, 1)
    rim = np.exp(-(((distance - 1.5 * radius_mm) / (0.3 * radius_mm)) ** 2))
    image[box] = image[box] * kept + abs(pile) * beside * rim


def missing_signal(rng: np.random.Generator, image: F32, labels: U8, spacing_mm: Spacing) -> F32:
    """A slice that was lost, or a hole as an implant further off or a fallen-off coil leaves it."""
    left = np.float32(rng.uniform(0.0, 0.15))
    thick = int(np.argmax(spacing_mm))
    if spacing_mm[thick] > 2 * min(spacing_mm) and rng.random() < 0.5:
        image = image.copy()
        np.moveaxis(image, thick, 0)[int(rng.integers(image.shape[thick]))] *= left
        return image
    column = np.argwhere(labels > 0)
    step = np.array(spacing_mm)
    middle = column[rng.integers(len(column))] * step if len(column) else np.array(image.shape) * step / 2
    centre, radius = middle + rng.normal(0, 25, 3), rng.uniform(12, 35)
    squares = [((np.arange(n) * s - c) ** 2) for n, s, c in zip(image.shape, spacing_mm, centre, strict=True)]
    distance = np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])
    kept = 1 / (1 + np.exp(-np.clip((distance - radius) / (0.15 * radius), -30, 30)))
    return np.asarray(image * (left + (1 - left) * kept), np.float32)


FLAWS: Final[dict[Flaw, Callable[[np.random.Generator, F32, U8, Spacing], F32]]] = {
    "motion": motion, "metal": metal, "missing_signal": missing_signal,
}  # fmt: skip
