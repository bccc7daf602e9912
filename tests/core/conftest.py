"""A spine made of boxes, whose instances, names and measurements can be worked out by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from spinecore.geometry import Volume
from spinecore.labels import Class

BODY_MM, DISC_MM, ANCHOR_MM = 20, 6, 34
HALF_AP, HALF_WIDTH = 12, 15
CANAL_BEHIND, CANAL_AP, CANAL_HALF_WIDTH = 4, 14, 8
MARGIN = 12
MIDDLE_Y, MIDDLE_X = 25, 25


@dataclass
class BoxSpine:
    """An upright column on a 1 mm grid in LPS: array axes (z up, y posterior, x left).

    members: from the head downward, of "c2", "body", "disc", "sacrum", "gap6", "gap20" and the like.
    `classes` is the map; `spans` holds (kind, first z, last z + 1) of each member.
    """

    members: list[str]
    margin: int = MARGIN
    spans: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        height = sum(self.length(m) for m in self.members) + 2 * self.margin
        self.classes = np.zeros((height, 60, 52), np.uint8)
        z = height - self.margin
        for member in self.members:
            low = z - self.length(member)
            self.spans.append((member, low, z))
            self._fill(member, low, z)
            z = low
        front = MIDDLE_Y + HALF_AP + CANAL_BEHIND
        across = slice(MIDDLE_X - CANAL_HALF_WIDTH, MIDDLE_X + CANAL_HALF_WIDTH)
        self.classes[:, front : front + CANAL_AP, across] = Class.CANAL

    @staticmethod
    def length(member: str) -> int:
        """Extent of one member along z in mm."""
        if member.startswith("gap"):
            return int(member[3:])
        return {"body": BODY_MM, "disc": DISC_MM, "rudiment": DISC_MM}.get(member, ANCHOR_MM)

    def _fill(self, member: str, low: int, high: int) -> None:
        kinds = {"body": Class.BODY, "disc": Class.DISC, "rudiment": Class.DISC, "c2": Class.C2}
        if member.startswith("gap"):
            return
        share = 0.5 if member == "rudiment" else 1.0
        ap, width = int(HALF_AP * share), int(HALF_WIDTH * share)
        box = (
            slice(low, high),
            slice(MIDDLE_Y - ap, MIDDLE_Y + ap),
            slice(MIDDLE_X - width, MIDDLE_X + width),
        )
        self.classes[box] = kinds.get(member, Class.SACRUM)

    @property
    def affine(self) -> np.ndarray:
        """1 mm grid along LPS, origin at voxel (0, 0, 0)."""
        return np.eye(4)

    @property
    def volume(self) -> Volume:
        """A volume with an image that is brighter in bone than elsewhere."""
        image = 100.0 + 50.0 * (self.classes == Class.BODY) + 20.0 * (self.classes == Class.CANAL)
        return Volume(image[None].astype(np.float32), self.affine)


def levels(count: int, *, top: str | None = None, bottom: str | None = None) -> list[str]:
    """Members of a column of `count` bodies with discs between, and the anchors above and below if given."""
    column = ["body", *["disc", "body"] * (count - 1)]
    head = [top, "disc"] if top else []
    foot = ["disc", bottom] if bottom else []
    return [*head, *column, *foot]


@pytest.fixture
def box_spine() -> Callable[..., BoxSpine]:
    """`BoxSpine`: ``box_spine(["body", "disc", "sacrum"])``."""
    return BoxSpine


@pytest.fixture
def column() -> Callable[..., list[str]]:
    """The function `levels`: ``column(5, bottom="sacrum")``."""
    return levels
