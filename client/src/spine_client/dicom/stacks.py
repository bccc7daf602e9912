"""Groups frames into stacks: images of one series that can lie behind one another in one volume."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from spine_client.dicom.frame import Frame

_DIRECTION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine within a stack."""
_SPACING_TOLERANCE_MM = 1e-3
_LOCALIZER_WORDS = re.compile(
    r"\b(loc|localis?er|localizer|scout|survey|surview|3[- ]?plane)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Stack:
    """Frames with one orientation, size, pixel spacing, echo, temporal position and image type.

    `stack_id` is the SeriesInstanceUID, with ``#1``, ``#2``, … behind it where a series holds several.
    """

    stack_id: str
    frames: tuple[Frame, ...]

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.frames[0].series_uid

    @property
    def plane(self) -> str:
        """``sagittal``, ``coronal`` or ``axial``: the anatomical plane nearest to the images."""
        return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(self.frames[0].normal)))]

    @property
    def echo_time_ms(self) -> float | None:
        """Echo time of the first frame."""
        return self.frames[0].echo_time_ms

    @property
    def is_localizer(self) -> bool:
        """Whether image type or description say that the images only plan others."""
        frame = self.frames[0]
        return "LOCALIZER" in frame.image_type or bool(_LOCALIZER_WORDS.search(frame.description))

    @property
    def is_magnitude(self) -> bool:
        """False for phase, real, imaginary and derived parameter images."""
        kinds = set(self.frames[0].image_type[2:4])
        return not kinds & {
            "P",
            "PHASE",
            "PHASE MAP",
            "R",
            "REAL",
            "I",
            "IMAGINARY",
            "ADC",
            "T1 MAP",
            "T2 MAP",
        }


def group_into_stacks(frames: Iterable[Frame]) -> list[Stack]:
    """All stacks of the frames, by series number, then by echo time."""
    by_attributes: dict[object, list[list[Frame]]] = defaultdict(list)
    for frame in frames:
        clusters = by_attributes[_attributes(frame)]
        cluster = next((known for known in clusters if _same_plane(known[0], frame)), None)
        if cluster is None:
            clusters.append([frame])
        else:
            cluster.append(frame)
    groups = [
        group for clusters in by_attributes.values() for cluster in clusters for group in _repeats(cluster)
    ]
    return _with_ids(sorted(groups, key=_listing_order))


def _attributes(frame: Frame) -> object:
    echo_time = None if frame.echo_time_ms is None else round(frame.echo_time_ms, 1)
    return (
        frame.series_uid,
        (frame.rows, frame.columns),
        (frame.echo_number, echo_time),
        frame.temporal,
        frame.image_type,
    )


def _same_plane(one: Frame, other: Frame) -> bool:
    directions = np.subtract(one.orientation, other.orientation)
    spacings = np.subtract(one.spacing, other.spacing)
    return bool(
        np.abs(directions).max() <= _DIRECTION_TOLERANCE and np.abs(spacings).max() <= _SPACING_TOLERANCE_MM
    )


def _repeats(frames: list[Frame]) -> list[list[Frame]]:
    """Split by acquisition number if that, and only that, tells images at the same place apart."""
    if not _has_duplicates(frames):
        return [frames]
    by_acquisition: dict[int | None, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_acquisition[frame.acquisition].append(frame)
    parts = list(by_acquisition.values())
    equal_places = len({frozenset(_places(part)) for part in parts}) == 1
    return parts if equal_places and not any(_has_duplicates(part) for part in parts) else [frames]


def _places(frames: Sequence[Frame]) -> list[tuple[float, ...]]:
    return [tuple(round(value, 2) for value in frame.position) for frame in frames]


def _has_duplicates(frames: Sequence[Frame]) -> bool:
    return len(set(_places(frames))) < len(frames)


def _listing_order(frames: Sequence[Frame]) -> tuple[object, ...]:
    first = frames[0]
    return (
        first.series_number if first.series_number is not None else 1 << 31,
        first.series_uid,
        first.echo_time_ms or 0.0,
        -len(frames),
        first.image_type,
        first.temporal or 0,
        first.orientation,
    )


def _with_ids(groups: Sequence[Sequence[Frame]]) -> list[Stack]:
    per_series = Counter(group[0].series_uid for group in groups)
    seen: Counter[str] = Counter()
    stacks = []
    for group in groups:
        uid = group[0].series_uid
        seen[uid] += 1
        stack_id = f"{uid}#{seen[uid]}" if per_series[uid] > 1 else uid
        stacks.append(Stack(stack_id, tuple(group)))
    return stacks
