"""The paper's own figures: Tables 4, 5 and 6, and the Dice by region of its abstract."""

from __future__ import annotations

CERVICAL = tuple(f"C{n}" for n in range(2, 8))
THORACIC = tuple(f"T{n}" for n in range(1, 13))
LUMBAR = tuple(f"L{n}" for n in range(1, 6))
LEVELS = (*CERVICAL, *THORACIC, *LUMBAR)
REGIONS = {"cervical": CERVICAL, "thoracic": THORACIC, "lumbar": LUMBAR}

DICE = {
    "C2": 0.87, "C3": 0.88, "C4": 0.88, "C5": 0.89, "C6": 0.88, "C7": 0.87,
    "L1": 0.90, "L2": 0.91, "L3": 0.92, "L4": 0.91, "L5": 0.90,
}  # fmt: skip
DICE_CANAL = 0.87
DICE_OF_REGION = {"cervical": 0.91, "thoracic": 0.90, "lumbar": 0.94}

HEIGHT_MSE_MM2 = {
    "C1": 1.7, "C2": 1.6, "C3": 1.5, "C4": 1.6, "C5": 1.7, "C6": 1.8,
    "L1": 1.5, "L2": 1.4, "L3": 1.3, "L4": 1.4, "L5": 1.5,
}  # fmt: skip
"""By the vertebra above the disc. C1 has none below it."""
CANAL_MSE_MM2 = {"cervical": 1.1, "lumbar": 1.0}

PRECISION_RECALL = {
    "C1": (97.40, 96.30), "C2": (98.50, 97.60), "C3": (98.00, 97.30), "C4": (97.70, 96.80),
    "C5": (97.90, 97.90), "C6": (97.20, 96.40),
    "L1": (98.20, 97.40), "L2": (97.90, 97.10), "L3": (98.10, 97.50), "L4": (98.30, 97.70),
    "L5": (97.80, 96.90),
}  # fmt: skip
"""Percent, by the vertebra above the segment."""
PRECISION_RECALL_CANAL = (97.90, 96.30)


def disc_name(upper: str) -> str:
    """``"L5/S1"`` for ``"L5"``, in a spine counted as usual."""
    after = {"C7": "T1", "T12": "L1", "L5": "S1"}
    return f"{upper}/{after.get(upper, upper[0] + str(int(upper[1:]) + 1))}"
