"""Which number means what in a site's label maps.

``verse``    VerSe and TPTBox instances, and our server's own answers: vertebra N, disc below it 100 + N,
             endplate 200 + N, sacrum 26 (its parts 29 to 33), cord 60, canal 61, unnamed levels 71… and 171….
``spineps``  SPINEPS structures: 41 to 48 posterior elements, 49 and 50 body, 60 cord, 61 canal, 62 endplate,
             100 disc (or 100 + N).
``nnunet``   our six classes 0 to 5, or whatever the folder's ``dataset.json`` calls them.
A JSON file  ``{"1": "body", "7": "disc"}`` with the names of `NAMES`.

Numbers after TPTBox 0.6 (`Location`, `Vertebra_Instance`) and the VerSe challenge.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spine_training.pairs.errors import PairError
from spinecore.labels import DISC_OFFSET, Class

ENDPLATE = 6
"""Beside the six classes: bone of a body that borders on a disc. Trained as body, left out of Dice."""

LEVELLED = "verse"
NAMES: dict[str, int] = {
    "background": Class.BACKGROUND,
    **dict.fromkeys(("body", "vertebra", "vertebrae", "vertebral body"), int(Class.BODY)),
    **dict.fromkeys(("disc", "discs", "disk", "ivd"), int(Class.DISC)),
    **dict.fromkeys(("canal", "spinal canal", "cord", "spinal cord"), int(Class.CANAL)),
    "sacrum": Class.SACRUM,
    **dict.fromkeys(("c2", "axis"), int(Class.C2)),
    **dict.fromkeys(("endplate", "endplates"), ENDPLATE),
}
SACRAL = (26, *range(29, 34))
"""S1 to S5; 27 is the coccyx, 28 T13."""
_C1, _COCCYX = 1, 27
_BODIES = (*range(3, 26), 28, *range(71, 100))
_DISCS = (*range(DISC_OFFSET + 2, DISC_OFFSET + 26), DISC_OFFSET + 28, *range(171, 200))


@dataclass(frozen=True)
class LabelTable:
    """A scheme of label numbers: `classes` maps each known number to a class or `ENDPLATE`."""

    name: str
    classes: Mapping[int, int]

    @property
    def has_levels(self) -> bool:
        """Whether the numbers tell one vertebra from the next."""
        return self.name == LEVELLED

    def unknown(self, numbers: Collection[int]) -> list[int]:
        """The numbers the table does not know, sorted."""
        return sorted(set(numbers) - set(self.classes))

    def apply(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Classes and `ENDPLATE`, same shape, of known label numbers."""
        lookup = np.zeros(max(self.classes) + 1, dtype=np.uint8)
        lookup[list(self.classes)] = list(self.classes.values())
        found: NDArray[np.uint8] = lookup[labels]
        return found


def _table(name: str, groups: Mapping[int, Collection[int]]) -> LabelTable:
    return LabelTable(name, {0: 0} | {number: cls for cls, numbers in groups.items() for number in numbers})


VERSE = _table(
    LEVELLED,
    {
        Class.BACKGROUND: (_C1, _COCCYX, DISC_OFFSET + _C1),
        Class.BODY: _BODIES,
        Class.DISC: _DISCS,
        Class.CANAL: (60, 61),
        Class.SACRUM: (*SACRAL, DISC_OFFSET + 26),
        Class.C2: (2,),
        ENDPLATE: range(201, 234),
    },
)
SPINEPS = _table(
    "spineps",
    {
        Class.BACKGROUND: (*range(41, 49), 63, 64),
        Class.BODY: (49, 50),
        Class.DISC: (58, 59, DISC_OFFSET, *_DISCS),
        Class.CANAL: (60, 61),
        Class.SACRUM: SACRAL,
        Class.C2: (51,),
        ENDPLATE: (52, 53, 62),
    },
)
NNUNET = LabelTable("nnunet", {int(cls): int(cls) for cls in Class})
TABLES = {table.name: table for table in (VERSE, SPINEPS, NNUNET)}
_ONLY_SPINEPS = {*range(41, 60), 62, 63, 64, DISC_OFFSET}


def choose_table(
    wanted: str, numbers: Collection[int], *, dataset_json: Path | None = None
) -> tuple[LabelTable, str]:
    """The table to read `numbers` with, and a sentence on why it is that one.

    wanted: a table's name, the path of a JSON table, or ``auto``. numbers: all label numbers of the folder.
    """
    if wanted in TABLES and not (wanted == NNUNET.name and dataset_json):
        return TABLES[wanted], f"label numbers are read as {wanted}, as asked for"
    if wanted not in ("auto", *TABLES):
        return _from_file(Path(wanted)), f"label numbers are read by {Path(wanted).name}"
    if dataset_json is not None:
        return _from_dataset_json(dataset_json), "label numbers are read by the folder's dataset.json"
    return _detected(set(numbers))


def _detected(numbers: set[int]) -> tuple[LabelTable, str]:
    shown = ", ".join(map(str, sorted(numbers)[:12]))
    if numbers & _ONLY_SPINEPS:
        return SPINEPS, f"label numbers look like SPINEPS structures ({shown})"
    if max(numbers, default=0) <= max(Class):
        if numbers >= set(Class):
            return NNUNET, f"label numbers look like the six classes 0 to 5 ({shown})"
        raise PairError(
            f"The label numbers ({shown}) may be our six classes or VerSe's C1 to C5: "
            "say which with --labels nnunet or --labels verse."
        )
    return VERSE, f"label numbers look like VerSe levels ({shown})"


def _from_file(path: Path) -> LabelTable:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        numbered = {int(number): str(name) for number, name in content.items()}
    except (OSError, ValueError, AttributeError):
        known = ", ".join(("auto", *TABLES))
        raise PairError(
            f"--labels takes {known} or a JSON file that maps label numbers to names; {path.name} is neither."
        ) from None
    return _named(path.name, numbered)


def _from_dataset_json(path: Path) -> LabelTable:
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        numbered = {int(number): str(name) for name, number in labels.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise PairError(
            f"{path.name} has no usable labels: it must map each name to one number, as nnU-Net asks."
        ) from None
    return _named(NNUNET.name, numbered)


def _named(table: str, numbered: Mapping[int, str]) -> LabelTable:
    classes = {0: 0}
    for number, name in numbered.items():
        key = name.lower().replace("_", " ").strip()
        if key not in NAMES or not 0 <= number < 2**15:
            raise PairError(f"Label {number} is called {name!r}; known are {', '.join(NAMES)}.")
        classes[number] = int(NAMES[key])
    return LabelTable(table, classes)
