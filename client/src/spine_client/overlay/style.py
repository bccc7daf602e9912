"""Colours and type of the overlay, in one place."""

from __future__ import annotations

from spine_client._contract import CANAL_LABEL, DISC_OFFSET, SACRUM_LABEL

BODY_COLOURS = ("#5aa9f7", "#2f7fd6")
"""Neighbouring bodies alternate."""
SACRUM_COLOUR = "#b287f0"
DISC_COLOUR = "#ffc145"
CANAL_COLOUR = "#3ddc97"
HEIGHT_COLOUR = "#ffffff"
CANAL_AP_COLOUR = "#ff5d73"

PAGE = "#ffffff"
INK = "#1d2733"
FAINT_INK = "#66717e"
RULE = "#c9d0d8"
FLAG = "#b3261e"

FILL_ALPHA = 0.30
TITLE_PT, TEXT_PT, SMALL_PT = 12.0, 8.5, 7.0


def colour_of(label: int, position: int) -> str:
    """Colour of a label; `position` counts the vertebrae from the top."""
    if label == CANAL_LABEL:
        return CANAL_COLOUR
    if label > DISC_OFFSET:
        return DISC_COLOUR
    if label == SACRUM_LABEL:
        return SACRUM_COLOUR
    return BODY_COLOURS[position % len(BODY_COLOURS)]
