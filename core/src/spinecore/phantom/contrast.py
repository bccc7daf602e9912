"""Mean intensity and texture of every tissue, drawn per image.

Ranges are relative to bright cerebrospinal fluid (1.0) and follow what sagittal spine series look like; the
fully random contrast ties tissues together only where anatomy does (marrow of arch and body, of sacrum and
body).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinecore.phantom.config import Contrast
from spinecore.phantom.tissues import ORGANS, Tissue

F32 = NDArray[np.float32]
T = Tissue

CONTRAST_SHARE: Final[dict[Contrast, float]] = {"random": 0.35, "t2": 0.36, "t1": 0.2, "fatsat": 0.09}

# Lowest and highest mean intensity of a tissue in T2, T1 and fat-suppressed T2.
RANGES: Final[dict[Tissue, tuple[float, float, float, float, float, float]]] = {
    T.CSF: (0.75, 1.1, 0.08, 0.3, 0.8, 1.1),
    T.CORD: (0.25, 0.6, 0.25, 0.45, 0.3, 0.6),
    T.ROOTS: (0.2, 0.55, 0.2, 0.4, 0.2, 0.5),
    T.ROOT_IN_FORAMEN: (0.1, 0.4, 0.2, 0.4, 0.2, 0.6),
    T.NUCLEUS: (0.3, 0.95, 0.2, 0.45, 0.4, 0.9),
    T.NUCLEUS_DEGENERATE: (0.1, 0.35, 0.2, 0.4, 0.1, 0.35),
    T.ANNULUS: (0.03, 0.25, 0.1, 0.35, 0.03, 0.25),
    T.CLEFT: (0.15, 0.5, 0.15, 0.4, 0.15, 0.5),
    T.MARROW: (0.18, 0.55, 0.3, 0.75, 0.06, 0.3),
    T.RIM: (0.0, 0.15, 0.0, 0.15, 0.0, 0.1),
    T.VEIN_BASIVERTEBRAL: (0.3, 0.8, 0.2, 0.6, 0.3, 0.8),
    T.MODIC: (0.1, 0.9, 0.1, 0.9, 0.1, 0.9),
    T.MUSCLE: (0.06, 0.25, 0.2, 0.38, 0.1, 0.3),
    T.FAT: (0.4, 0.9, 0.55, 1.0, 0.0, 0.2),
    T.FAT_EPIDURAL: (0.4, 0.9, 0.55, 1.0, 0.0, 0.2),
    T.PREVERTEBRAL: (0.4, 0.9, 0.55, 1.0, 0.0, 0.2),
    T.FAT_SUBCUTANEOUS: (0.5, 1.6, 0.7, 1.6, 0.0, 0.3),
    T.INTERSPINOUS: (0.1, 0.6, 0.3, 0.8, 0.05, 0.4),
    T.LIGAMENT: (0.0, 0.15, 0.0, 0.15, 0.0, 0.15),
    T.SKIN: (0.1, 0.6, 0.2, 0.5, 0.1, 0.5),
    T.AORTA: (0.0, 0.3, 0.0, 0.25, 0.0, 0.3),
    T.VENA_CAVA: (0.0, 0.3, 0.0, 0.25, 0.0, 0.4),
    T.BRAIN: (0.25, 0.6, 0.25, 0.5, 0.25, 0.6),
    T.BRAIN_CSF: (0.7, 1.1, 0.08, 0.3, 0.8, 1.1),
    **dict.fromkeys(ORGANS, (0.03, 0.6, 0.1, 0.5, 0.05, 0.7)),
}
_COLUMN: Final[dict[Contrast, int]] = {"t2": 0, "t1": 2, "fatsat": 4}

NERVE_TO_MUSCLE: Final[dict[Contrast, float]] = {"t1": 1.2, "t2": 1.8, "fatsat": 1.8}
"""Cord and roots are at least so bright beside muscle (flavum is drawn as muscle): where flavum presses on
them, that shows the canal's wall. Cord and optic nerve have a T1 of 0.75 to 0.99 s and a T2 of 73 to 78 ms,
muscle 1.0 to 1.4 s and 44 to 50 ms (Stanisz et al. 2005; Smith et al. 2008). Spin echo makes of that 1.3 to
1.5 in T1 (TR 500 to 800 ms, TE 10 ms) and 1.9 to 2.6 in T2 (TR 3 s, TE 80 to 100 ms), less a tenth for proton
density."""
CSF_TO_SOFT_T1: Final = 0.65
"""In T1 the fluid is at most so bright beside muscle, cord and roots (flavum is drawn as muscle). Spin echo,
TR 500 to 800 ms, TE 10 ms, 1.5 and 3 T: 1 - exp(-TR / 4 s) for CSF against (1 - exp(-TR / T1)) exp(-TE / T2)
with muscle's T1 of 1.0 and 1.4 s and T2 of 44 and 50 ms (Stanisz et al. 2005) gives 0.38 to 0.51, with
muscle's lower proton density up to 0.64."""
LIGAMENT_TO_CSF_T1: Final = 0.7
"""In T1 dura and ligaments are at most so bright beside the fluid: as above, with two thirds of the water, a
T1 of 0.9 s and the T2* of dense collagen, 5 to 8 ms (patellar tendon, posterior cruciate ligament, 1.5 T),
gives 0.3 to 0.7."""
MARROW_TO_DISC_T1: Final = 1.15
"""In T1 the fat in adult marrow makes it at least so much brighter than discs and muscle; that it is not is
how marrow is read as diseased (Vogler and Murphy 1988). Only fully random contrasts show that."""
_MARROWS: Final = [T.MARROW, T.POSTERIOR_MARROW, T.SACRUM_MARROW, T.C2_MARROW]


@dataclass(frozen=True)
class TissueLook:
    """(TISSUE_COUNT,) float32 each: mean intensity and standard deviation of the texture."""

    mean: F32
    texture: F32


def draw_contrast(rng: np.random.Generator) -> Contrast:
    """A contrast by its share in training."""
    names = list(CONTRAST_SHARE)
    return names[int(rng.choice(len(names), p=list(CONTRAST_SHARE.values())))]


def draw_look(rng: np.random.Generator, contrast: Contrast) -> TissueLook:
    """Draw intensities for one image."""
    mean = rng.uniform(0, 1, T.DURA).astype(np.float32)  # of all but dura, the last
    if contrast in _COLUMN:
        column = _COLUMN[contrast]
        for tissue, bounds in RANGES.items():
            mean[tissue] = rng.uniform(bounds[column], bounds[column + 1])
        nerve = [T.CORD, T.ROOTS]
        mean[nerve] = np.maximum(mean[nerve], NERVE_TO_MUSCLE[contrast] * mean[T.MUSCLE])
    _tie(rng, mean, contrast)
    if contrast == "t1":
        _order_t1(mean)
    spread = rng.uniform(0, 0.09) + (rng.random(T.DURA) < 0.3) * rng.uniform(0, 0.1, T.DURA)
    for tissue in (*ORGANS, T.FAT, T.BRAIN, T.MUSCLE):
        spread[tissue] += rng.uniform(0, 0.15)
    spread[[T.AIR, T.LUNG, T.AIRWAY]] *= rng.uniform(0, 0.3)
    mean, spread = (np.append(each, each[T.LIGAMENT]) for each in (mean, spread))  # dura looks as ligament
    return TissueLook(mean, spread.astype(np.float32))


def _tie(rng: np.random.Generator, mean: F32, contrast: Contrast) -> None:
    """Make tissues that are the same stuff look alike, most of the time."""
    for tissue, chance, low, high in (
        (T.POSTERIOR_MARROW, 0.75, 0.8, 1.3),
        (T.SACRUM_MARROW, 0.85, 0.85, 1.2),
        (T.C2_MARROW, 0.9, 0.85, 1.15),
    ):
        if rng.random() < chance:
            mean[tissue] = mean[T.MARROW] * rng.uniform(low, high)
    if rng.random() < 0.3 and contrast != "random":
        mean[T.RIM] = mean[T.MARROW] * rng.uniform(0.3, 0.9)
    mean[T.POSTERIOR_RIM] = mean[T.RIM] * rng.uniform(0.8, 1.2)
    mean[[T.SACRUM_RIM, T.C2_RIM]] = mean[T.RIM]
    if rng.random() < 0.8:
        mean[T.SACRUM_DISC] = mean[rng.choice([T.ANNULUS, T.NUCLEUS_DEGENERATE, T.NUCLEUS])]
    mean[[T.AIR, T.LUNG, T.AIRWAY]] = 0.0 if rng.random() < 0.8 else rng.uniform(0, 0.1)
    if rng.random() < 0.3:
        mean[T.NUCLEUS_DEGENERATE] = mean[T.ANNULUS] * rng.uniform(0.8, 1.5)


def _order_t1(mean: F32) -> None:
    """Put what T1 orders into that order, where ranges that overlap did not."""
    fluid, soft = [T.CSF, T.BRAIN_CSF], [T.MUSCLE, T.CORD, T.ROOTS]
    mean[fluid] = np.minimum(mean[fluid], CSF_TO_SOFT_T1 * mean[soft].min())
    mean[T.LIGAMENT] = min(mean[T.LIGAMENT], LIGAMENT_TO_CSF_T1 * mean[T.CSF])
    darker = [T.NUCLEUS, T.NUCLEUS_DEGENERATE, T.ANNULUS, T.MUSCLE]
    mean[_MARROWS] *= max(1.0, MARROW_TO_DISC_T1 * float(mean[darker].max() / mean[T.MARROW]))
