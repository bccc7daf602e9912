"""Label numbers of the label map and names of the levels (VerSe / SPINEPS numbering).

C1…C7 = 1…7, T1…T12 = 8…19, L1…L5 = 20…24, L6 = 25, sacrum = 26, T13 = 28. The disc below vertebra N is
100 + N. Canal (with the cord and roots in it) = 61. A vertebra whose level could not be named gets
71, 72, … counted from the top of the image, its disc below 171, 172, …
"""

from __future__ import annotations

from enum import IntEnum


class Class(IntEnum):
    """What the segmentation network predicts per voxel."""

    BACKGROUND = 0
    BODY = 1
    DISC = 2
    CANAL = 3
    SACRUM = 4
    C2 = 5


VERTEBRA_NAMES: dict[int, str] = {
    **{n: f"C{n}" for n in range(1, 8)},
    **{7 + n: f"T{n}" for n in range(1, 13)},
    **{19 + n: f"L{n}" for n in range(1, 7)},
    26: "S1",
    28: "T13",
}
LABEL_OF_VERTEBRA: dict[str, int] = {name: label for label, name in VERTEBRA_NAMES.items()}

C2 = 2
MOBILE_VERTEBRAE: tuple[int, ...] = tuple(range(3, 25))  # C3…L5, the 22 between C2 and the sacrum
SACRUM = 26
CANAL = 61
DISC_OFFSET = 100
FIRST_UNNAMED_VERTEBRA = 71
LAST_UNNAMED_VERTEBRA = 99


def disc_label(upper_vertebra: int) -> int:
    """Label of the disc below vertebra label `upper_vertebra`."""
    return DISC_OFFSET + upper_vertebra


def disc_name(upper: str, lower: str) -> str:
    """Name of the disc between two vertebrae, e.g. ``"L5/S1"``."""
    return f"{upper}/{lower}"
