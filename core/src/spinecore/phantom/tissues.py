"""The tissues a phantom is painted from, and the network class each belongs to.

A tissue map holds one `Tissue` per voxel. Intensities are drawn per tissue (`intensities`), so several
tissues can share a class: a vertebral body is marrow, a dark rim, a basivertebral vein and now and then a
Modic change.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinecore.labels import Class


class Tissue(IntEnum):
    """What a voxel of the phantom is made of."""

    AIR = 0
    MARROW = 1
    RIM = 2
    VEIN_BASIVERTEBRAL = 3
    MODIC = 4
    NUCLEUS = 5
    ANNULUS = 6
    NUCLEUS_DEGENERATE = 7
    CSF = 8
    CORD = 9
    ROOTS = 10
    SACRUM_MARROW = 11
    SACRUM_RIM = 12
    SACRUM_DISC = 13
    C2_MARROW = 14
    C2_RIM = 15
    POSTERIOR_MARROW = 16
    POSTERIOR_RIM = 17
    LIGAMENT = 18
    FAT_EPIDURAL = 19
    MUSCLE = 20
    FAT = 21
    FAT_SUBCUTANEOUS = 22
    SKIN = 23
    AORTA = 24
    VENA_CAVA = 25
    ORGAN_A = 26
    ORGAN_B = 27
    ORGAN_C = 28
    ORGAN_D = 29
    ORGAN_E = 30
    ORGAN_F = 31
    LUNG = 32
    PREVERTEBRAL = 33
    INTERSPINOUS = 34
    BRAIN = 35
    CLEFT = 36
    ROOT_IN_FORAMEN = 37
    AIRWAY = 38
    BRAIN_CSF = 39
    DURA = 40


TISSUE_COUNT: Final = len(Tissue)

ORGANS: Final = (
    Tissue.ORGAN_A,
    Tissue.ORGAN_B,
    Tissue.ORGAN_C,
    Tissue.ORGAN_D,
    Tissue.ORGAN_E,
    Tissue.ORGAN_F,
)

_CLASS_MEMBERS: Final = {
    Class.BODY: (Tissue.MARROW, Tissue.RIM, Tissue.VEIN_BASIVERTEBRAL, Tissue.MODIC),
    Class.DISC: (Tissue.NUCLEUS, Tissue.ANNULUS, Tissue.NUCLEUS_DEGENERATE, Tissue.CLEFT),
    Class.CANAL: (Tissue.CSF, Tissue.CORD, Tissue.ROOTS, Tissue.DURA),
    Class.SACRUM: (Tissue.SACRUM_MARROW, Tissue.SACRUM_RIM, Tissue.SACRUM_DISC),
    Class.C2: (Tissue.C2_MARROW, Tissue.C2_RIM),
}


def _class_table() -> NDArray[np.uint8]:
    table = np.zeros(TISSUE_COUNT, np.uint8)
    for network_class, members in _CLASS_MEMBERS.items():
        table[list(members)] = network_class
    return table


CLASS_OF_TISSUE: Final = _class_table()
"""(TISSUE_COUNT,) uint8: `CLASS_OF_TISSUE[tissue_map]` is the class map."""
