"""Spines that depart from the usual count: L6, T13, a lumbarised S1, a sacralised L5; and fused discs.

The column always has 28 slots, counted from below; what changes is which slot is the top of the sacrum and
which of the usual vertebrae each slot resembles (its role). With one mobile vertebra more the lowest sacral
segment is left out, with one less there is one more.

What is drawn here comes from its own stream of random numbers, so a spine without any of it is the same
as before, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from spinecore.labels import C2, SACRUM, VERTEBRA_NAMES
from spinecore.phantom.config import PhantomConfig, VariantKind

SLOTS: Final = 28
USUAL_S1: Final = 4
TOP_SACRAL: Final[dict[VariantKind, int]] = {
    "usual": 4, "sacralised_l5": 5, "lumbarised_s1": 3, "l6": 3, "t13": 3,
}  # fmt: skip
HIGHEST_FUSED: Final = 25  # the disc C3/C4: C2 takes no part
L6, T13 = 25, 28
_LABELS_UP: Final = tuple(range(24, C2 - 1, -1))  # L5…C2


@dataclass(frozen=True)
class Variant:
    """How a patient's vertebrae are counted.

    s1: slot of the uppermost sacral segment. roles (28,): the usual slot each one resembles. labels (28,):
    numbers in the label map. fused: discs (slot below) that are bone. slits: discs collapsed to a slit.
    rudiment_mm: thickness of the disc below a lumbarised S1.
    """

    kind: VariantKind
    s1: int
    roles: NDArray[np.intp]
    labels: tuple[int, ...]
    fused: frozenset[int]
    slits: frozenset[int]
    rudiment_mm: float

    def name_of(self, slot: int) -> str:
        """``"S1"``, ``"L5"`` … ``"C2"``; the lower sacral segments are ``"S2"`` …"""
        return f"S{self.s1 + 1 - slot}" if slot <= self.s1 else VERTEBRA_NAMES[self.labels[slot]]


def draw_variant(rng: np.random.Generator, config: PhantomConfig) -> Variant:
    """Draw what is unusual about a patient; by default nothing is."""
    kinds: tuple[VariantKind, ...] = get_args(VariantKind)
    unusual = kinds[int(rng.integers(1, len(kinds)))]  # the first is the usual one
    kind = config.variant or (unusual if rng.random() < config.transitional else kinds[0])
    closed, slit = rng.random(SLOTS) < config.fused, rng.random(SLOTS) < 0.5
    s1 = TOP_SACRAL[kind]
    usable = [k for k in range(s1 + 1, HIGHEST_FUSED + 1) if closed[k]]
    return Variant(
        kind, s1, _roles(kind), _labels(kind),
        frozenset(k for k in usable if not slit[k]), frozenset(k for k in usable if slit[k]),
        float(rng.uniform(3.0, 7.0)),
    )  # fmt: skip


def _roles(kind: VariantKind) -> NDArray[np.intp]:
    roles = np.arange(SLOTS)
    if kind == "sacralised_l5":
        roles[1:6] = np.arange(5)
    elif kind in ("l6", "t13"):
        roles[:5] = np.arange(1, 6)
    return roles


def _labels(kind: VariantKind) -> tuple[int, ...]:
    """Numbers of the 28 slots."""
    sacral = TOP_SACRAL[kind] + 1
    mobile = SLOTS - sacral
    if kind in ("lumbarised_s1", "l6"):
        upward = (L6, *_LABELS_UP)
    elif kind == "t13":
        upward = (*_LABELS_UP[:5], T13, *_LABELS_UP[5:])
    else:
        upward = _LABELS_UP[len(_LABELS_UP) - mobile :]
    return (SACRUM,) * sacral + upward
