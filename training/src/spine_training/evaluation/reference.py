"""What is true of a case: levels, and lengths in mm, from a phantom's surfaces or from reference masks.

A phantom's lengths come from its analytic surfaces. For any other pair the server's own geometric method
(`spinecore.measure`) measures the reference masks: what is then compared is the whole chain against the same
definition on a person's segmentation, not against a person's calliper. `Reference.source` says which it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spine_training.pairs.read import LabelledVolume
from spinecore.field_of_view import cut_by_view
from spinecore.findings import identify
from spinecore.frame_fit import Neighbours
from spinecore.geometry import Affine, Volume
from spinecore.labels import C2, DISC_OFFSET, FIRST_UNNAMED_VERTEBRA, SACRUM
from spinecore.measure import measure_disc
from spinecore.phantom import Phantom

LabelMap = NDArray[np.uint8]
Values = dict[str, float | None]

MIN_VOXELS = 200
PLACES = ("anterior", "middle", "posterior", "mean")
HEIGHTS = tuple(f"height_{place}" for place in PLACES)
CANAL_AP, CANAL_MIN, CANAL_BODY = "canal_ap", "canal_min", "canal_body"
QUANTITIES = (*HEIGHTS, CANAL_AP, CANAL_MIN, CANAL_BODY)
FROM_SURFACES = "the phantoms' surfaces"
FROM_MASKS = "the geometric method on the reference masks"
_T12, _T13, _L6, _LAST = 19, 28, 25, 99
_LOWEST_LUMBAR = (23, 24, 25)  # L4, where L5 is part of the sacrum, to L6


@dataclass(frozen=True)
class Level:
    """A vertebra or disc of the reference. complete: wholly in view. values: mm by quantity."""

    label: int
    complete: bool
    values: Values


@dataclass(frozen=True, eq=False)
class Reference:
    """What is true of a case.

    labels : (Z, Y, X) uint8 in the server's numbers. named: whether they are names, not only instances.
    ignored : (Z, Y, X) bool, voxels left out of every Dice (endplates); None: none are.
    source : where the lengths come from.
    """

    labels: LabelMap
    vertebrae: tuple[Level, ...]
    discs: tuple[Level, ...]
    named: bool = True
    source: str = FROM_SURFACES
    ignored: NDArray[np.bool_] | None = None

    @property
    def has_anchor(self) -> bool:
        """Whether C2 or the sacrum is in view with enough to be told from other vertebrae.

        Of C2 at least as much as of C3, so that some of its dens is there: its lower half alone looks like
        any cervical vertebra cut by the image. Of the sacrum at least half as much as of the vertebra on it.
        """
        counts = self._voxels
        c2 = max(int(counts[C2 + 1]), MIN_VOXELS)
        sacrum = max(int(counts[list(_LOWEST_LUMBAR)].max()) // 2, MIN_VOXELS)
        return bool(counts[C2] >= c2 or counts[SACRUM] >= sacrum)

    @property
    def has_edge_of_anchor(self) -> bool:
        """Whether C2 or the sacrum is in view, but too little of either for `has_anchor`."""
        return bool(max(self._voxels[SACRUM], self._voxels[C2]) >= MIN_VOXELS) and not self.has_anchor

    @cached_property
    def _voxels(self) -> NDArray[np.int64]:
        """How many there are of each label, (256,)."""
        return np.bincount(self.labels.ravel(), minlength=256)


def reference_of_phantom(phantom: Phantom) -> Reference:
    """The phantom's own truth."""
    return reference_of_truth(phantom.labels, phantom.truth.to_json())


def reference_of_truth(labels: LabelMap, truth: Mapping[str, Any]) -> Reference:
    """`labels` (Z, Y, X) with a phantom's truth as JSON."""
    return Reference(
        labels,
        tuple(
            Level(
                v["label"], v["complete"] and v.get("canal_in_view", True), {CANAL_BODY: v.get("canal_ap_mm")}
            )
            for v in truth["vertebrae"]
        ),
        tuple(Level(d["label"], d["complete"], _true_values(d)) for d in truth["discs"]),
    )


def _true_values(disc: Mapping[str, Any]) -> Values:
    heights: Values = {f"height_{place}": disc[f"{place}_mm"] for place in PLACES}
    return {**heights, CANAL_AP: disc["canal_ap_mm"], CANAL_MIN: disc.get("canal_min_ap_mm")}


def reference_of_masks(volume: LabelledVolume, *, names: bool = True) -> Reference:
    """A reference from masks alone.

    With levels in the labels those count; `names` False says that they only tell instances apart. Without
    levels the reference's own classes are divided and named as the server does it.
    """
    ignored = volume.endplates if volume.endplates.any() else None
    if volume.levels is None:
        image = Volume(np.asarray(volume.image)[None], volume.affine)
        found = identify(volume.classes, image)
        discs = tuple(_level_of_report(d) for d in found.document["discs"])
        bones = tuple(_level_of_report(v) for v in found.document["vertebrae"])
        named = names and bool(found.document["naming"]["named"])
        return Reference(found.labels, bones, discs, named, FROM_MASKS, ignored)
    labels = volume.levels
    present = [int(n) for n in np.flatnonzero(np.bincount(labels.ravel(), minlength=256) >= MIN_VOXELS)]
    bones = tuple(Level(n, _whole(labels, n, volume.affine), {}) for n in present if _is_bone(n))
    discs = tuple(_measured(labels, n, volume.affine) for n in present if n > DISC_OFFSET)
    return Reference(labels, bones, discs, names, FROM_MASKS, ignored)


def _is_bone(label: int) -> bool:
    return C2 <= label <= _T13 or FIRST_UNNAMED_VERTEBRA <= label <= _LAST


def _level_of_report(entry: Mapping[str, Any]) -> Level:
    values = report_values(entry, "geometric") if "height_mm" in entry else body_values(entry)
    return Level(entry["label"], entry["complete"], values)


def report_values(disc: Mapping[str, Any], method: str) -> Values:
    """mm by quantity of one disc of a report, by ``geometric``, ``cnn`` or ``reported``.

    Reports before 1.1 state no value of their own; there the CNN's counts as reported, else the geometric.
    """
    if method == "reported" and method not in disc["height_mm"]:
        values = [report_values(disc, source) for source in ("cnn", "geometric")]
        return {q: next((v[q] for v in values if v[q] is not None), None) for q in values[0]}
    heights = disc["height_mm"].get(method) or {}
    found: Values = {f"height_{place}": heights.get(place) for place in PLACES}
    smallest = disc.get("canal_min_ap_mm", {}).get("geometric") if method != "cnn" else None
    return {**found, CANAL_AP: disc["canal_ap_mm"].get(method), CANAL_MIN: smallest}


def report_errors(disc: Mapping[str, Any], method: str) -> Values:
    """Standard error in mm by quantity of one disc of a report; None where it states none."""
    heights = ((disc["height_mm"].get("standard_error_mm") or {}).get(method)) or {}
    canal = (disc["canal_ap_mm"].get("standard_error_mm") or {}).get(method)
    smallest = disc.get("canal_min_ap_mm", {}).get("standard_error_mm") if method != "cnn" else None
    found: Values = {f"height_{place}": heights.get(place) for place in PLACES}
    return {**found, CANAL_AP: canal, CANAL_MIN: smallest}


def body_values(vertebra: Mapping[str, Any]) -> Values:
    """mm by quantity of one vertebra of a report."""
    return {CANAL_BODY: vertebra.get("canal_ap_mm", {}).get("geometric")}


def body_errors(vertebra: Mapping[str, Any]) -> Values:
    """Standard error in mm by quantity of one vertebra of a report."""
    return {CANAL_BODY: vertebra.get("canal_ap_mm", {}).get("standard_error_mm")}


def _whole(labels: LabelMap, label: int, affine: Affine) -> bool:
    return not cut_by_view(np.flatnonzero(labels == label), labels.shape, affine).along


def _measured(labels: LabelMap, disc: int, affine: Affine) -> Level:
    """A disc of the reference masks by the geometric method."""
    cut = cut_by_view(np.flatnonzero(labels == disc), labels.shape, affine)
    if cut.along:
        return Level(disc, False, dict.fromkeys(QUANTITIES))
    names = Neighbours(disc, *_neighbours(disc - DISC_OFFSET, np.unique(labels).tolist()))
    found = measure_disc(labels, affine, names, side_cut=cut.side)
    lengths = {**found.heights, "canal": found.canal_ap}
    values: Values = {f"height_{p}": length.mm if length else None for p, length in found.heights.items()}
    values |= {
        "height_mean": found.mean_height_mm,
        CANAL_AP: lengths["canal"].mm if lengths["canal"] else None,
    }
    return Level(disc, True, values)


def _neighbours(upper: int, present: Iterable[int]) -> tuple[int | None, int | None]:
    """Labels of the bones above and below the disc under vertebra `upper`, None where not in view."""
    there = set(present)
    if upper >= FIRST_UNNAMED_VERTEBRA:
        below: tuple[int, ...] = (upper + 1,)
    else:
        below = {_T12: (_T13, 20), _T13: (20,), 23: (24, SACRUM), 24: (_L6, SACRUM), _L6: (SACRUM,)}.get(
            upper, (upper + 1,)
        )
    return (upper if upper in there else None), next((label for label in below if label in there), None)
