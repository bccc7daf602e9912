"""The findings document of one volume: what was found, named and measured, as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinecore.canal_ap import CanalCourse, Length, measure_canal
from spinecore.chain import Bone, Chain, Kind, centroid_lps
from spinecore.components import Cleaned
from spinecore.csf import CUT_DISC, DiscSignal, disc_signal
from spinecore.field_of_view import Cut, cut_by_view, in_view
from spinecore.frame_fit import FloatArray, LabelMap, Neighbours
from spinecore.geometry import Affine, Volume
from spinecore.labels import CANAL, VERTEBRA_NAMES, disc_name
from spinecore.levels import Naming, disc_labels
from spinecore.measure import HEIGHT_AT, DiscMeasurement, body_frame, measure_disc
from spinecore.separators import Members
from spinecore.workers import each_of

MAX_DISCS = 32  # the CNN's largest batch; a spine has 23

Document = dict[str, Any]

MESSAGES: dict[str, str] = {
    "no_spine": "No spine was found in the volume.",
    "specks_removed": "{n} segmented specks of fewer than 50 voxels were removed.",
    "islands_removed": "{n} segmented structures away from the spinal column were removed.",
    "levels_unnamed": "No level was named. {reason}",
    "anchor_in_doubt": "An anchor in view could not be relied on. {reason}",
    "transitional_anatomy": "{reason}",
    "chain_gap": "Levels beyond a gap in the column were not named. {reason}",
    "named_by_hint": "Levels were named by the caller's region hint, not by an anchor. {reason}",
    "hint_contradicted": "The region hint “{region}” does not fit the levels found; it was not followed.",
    "vertebra_missed": "{n} vertebrae between two discs were not segmented; they were counted in.",
    "disc_missed": "{n} discs between two vertebrae were not segmented (collapsed, fused or overlooked).",
    "too_many_discs": "More than 32 discs were found; only the uppermost 32 are reported.",
}


@dataclass(frozen=True, eq=False)
class Scene:
    """A volume with its cleaned classes, chain and names, and the label map painted from them."""

    volume: Volume
    cleaned: Cleaned
    chain: Chain
    naming: Naming
    labels: LabelMap

    @property
    def shape(self) -> tuple[int, ...]:
        return self.labels.shape

    @property
    def affine(self) -> Affine:
        return self.volume.affine


@dataclass(frozen=True, eq=False)
class Measured:
    """Measurements by place in the chain: of discs, of the canal at levels (2 i at bone i, 2 i + 1 at disc
    i), and the discs' signals."""

    discs: dict[int, DiscMeasurement]
    canal: dict[int, CanalCourse]
    signals: dict[int, DiscSignal]


def measure_levels(scene: Scene) -> Measured:
    """Measure the discs, at most `MAX_DISCS`, and the canal at discs and mid-bodies."""
    places = [i for i, disc in enumerate(scene.chain.discs) if disc is not None][:MAX_DISCS]
    discs = dict(zip(places, each_of(lambda i: _measured(scene, i), places), strict=True))
    canal = {2 * i + 1: m.canal for i, m in discs.items() if m.canal is not None}
    bones = scene.chain.bones
    courses = each_of(lambda i: _canal_at_body(scene, i, bones[i], discs), range(len(bones)))
    canal |= {2 * i: course for i, course in enumerate(courses) if course is not None}
    signals = each_of(lambda i: _signal(scene, i, discs[i]), places)
    return Measured(discs, canal, dict(zip(places, signals, strict=True)))


def _neighbours(scene: Scene, i: int) -> Neighbours:
    upper, lower = scene.chain.bones[i], scene.chain.bones[i + 1]
    labels = scene.naming.labels
    return Neighbours(
        disc=disc_labels(scene.naming)[i],
        upper=labels[i] if upper.seen else None,
        lower=labels[i + 1] if lower.seen else None,
    )


def _cut(scene: Scene, voxels: Members) -> Cut:
    return cut_by_view(voxels, scene.shape, scene.affine)


def _measured(scene: Scene, i: int) -> DiscMeasurement:
    disc = scene.chain.discs[i]
    side_cut = disc is not None and _cut(scene, disc.voxels).side
    return measure_disc(scene.labels, scene.affine, _neighbours(scene, i), side_cut=side_cut)


def _canal_at_body(
    scene: Scene, i: int, bone: Bone, discs: Mapping[int, DiscMeasurement]
) -> CanalCourse | None:
    """The canal behind vertebral body `i`; None behind C2, the sacrum, and a body cut by the view."""
    if bone.kind is not Kind.BODY or not bone.seen or _cut(scene, bone.voxels).along:
        return None
    above, below = (discs[k].frame if k in discs else None for k in (i - 1, i))
    frame = body_frame(centroid_lps(bone.voxels, scene.shape, scene.affine), above, below)
    return measure_canal(scene.labels, scene.affine, frame) if frame is not None else None


def _signal(scene: Scene, i: int, measured: DiscMeasurement) -> DiscSignal:
    disc = scene.chain.discs[i]
    if disc is None or _cut(scene, disc.voxels).along:
        return DiscSignal(None, CUT_DISC)
    image = scene.volume.voxels[0]
    return disc_signal(image, scene.labels, scene.affine, _neighbours(scene, i), measured.frame)


def describe(scene: Scene, measured: Measured, region: str | None) -> Document:
    """The findings document."""
    bones = [(i, bone) for i, bone in enumerate(scene.chain.bones) if bone.seen]
    vertebrae = [_vertebra_entry(scene, measured, i, bone) for i, bone in bones]
    discs = [_disc_entry(scene, measured, i) for i in measured.discs]
    found = sum(disc is not None for disc in scene.chain.discs)
    return {
        "input": _input_entry(scene.volume),
        "naming": {
            "method": scene.naming.method,
            "named": scene.naming.named,
            "reason": scene.naming.reason,
        },
        "vertebrae": vertebrae,
        "discs": discs,
        "canal": _canal_entry(scene, [*discs, *vertebrae]),
        "warnings": _warnings(scene, region, found),
    }


def _input_entry(volume: Volume) -> Document:
    return {
        "shape_zyx": list(volume.shape_zyx),
        "spacing_mm": [round(s, 4) for s in volume.spacing_zyx],
        "orientation": volume.orientation,
    }


def _vertebra_entry(scene: Scene, measured: Measured, i: int, bone: Bone) -> Document:
    return {
        "name": scene.naming.name_of(i),
        "label": scene.naming.labels[i],
        "centroid_lps_mm": _rounded(centroid_lps(bone.voxels, scene.shape, scene.affine)),
        "volume_mm3": round(bone.volume_mm3, 1),
        "complete": not _cut(scene, bone.voxels).along,
        **_canal_of_level(scene, measured, 2 * i),
    }


def _canal_of_level(scene: Scene, measured: Measured, level: int) -> Document:
    """The canal's AP diameter at a level's mid plane and the smallest of the level, with their lines."""
    course = measured.canal.get(level)
    at_plane = _visible(course.ap, scene) if course is not None else None
    smallest = None
    if course is not None and at_plane is not None:
        smallest = _visible(_narrowest(course, measured.canal, level), scene)
    entry: Document = {}
    for key, length in (("canal_ap", at_plane), ("canal_min_ap", smallest)):
        entry[f"{key}_mm"] = {"geometric": round(length.mm, 2) if length is not None else None}
        entry[f"{key}_line_lps_mm"] = _line(length)
    return entry


def _narrowest(course: CanalCourse, courses: Mapping[int, CanalCourse], level: int) -> Length | None:
    """The smallest AP diameter of the stretch nearer to `level` than to its neighbours.

    At the end of what was measured the stretch is as long as on the other side.
    """
    halves = [
        float(np.linalg.norm(courses[n].crossing_mm - course.crossing_mm)) / 2 if n in courses else None
        for n in (level + 1, level - 1)
    ]
    known = [half for half in halves if half is not None]
    if not known:
        return None
    below, above = (known[0] if half is None else half for half in halves)
    return course.narrowest(below, above)


def _disc_entry(scene: Scene, measured: Measured, i: int) -> Document:
    """One disc; lengths are None where the field of view or the label map does not allow them."""
    disc, lengths, signal = scene.chain.discs[i], measured.discs[i], measured.signals[i]
    assert disc is not None
    cut = _cut(scene, disc.voxels)
    heights = {place: None if cut.along else lengths.heights[place] for place in HEIGHT_AT}
    mean = None if cut.along else lengths.mean_height_mm
    canal = _canal_of_level(scene, measured, 2 * i + 1)
    canal["canal_ap_mm"]["cnn"] = None
    has_canal = canal["canal_ap_mm"]["geometric"] is not None
    upper, lower = (_level_entry(scene, k) for k in (i, i + 1))
    named = upper["name"] is not None and lower["name"] is not None
    return {
        "name": disc_name(upper["name"], lower["name"]) if named else None,
        "label": disc_labels(scene.naming)[i],
        "upper": upper,
        "lower": lower,
        "centroid_lps_mm": _rounded(centroid_lps(disc.voxels, scene.shape, scene.affine)),
        "height_mm": {"geometric": _height_entry(heights, mean), "cnn": None},
        "height_lines_lps_mm": {place: _line(length) for place, length in heights.items()},
        **canal,
        "signal_to_csf": {"value": _three_digits(signal.value), "reason": signal.reason},
        "complete": not cut.along,
        "flags": _disc_flags(cut.along, cut.side, mean is not None, has_canal),
    }


def _disc_flags(cut_along: bool, cut_side: bool, has_height: bool, has_canal: bool) -> list[str]:
    flags = {
        "cut_by_field_of_view": cut_along,
        "cut_at_the_side": cut_side,
        "height_not_measured": not has_height,
        "canal_not_measured": not has_canal,
    }
    return [code for code, is_set in flags.items() if is_set]


def _level_entry(scene: Scene, i: int) -> Document:
    label = scene.naming.labels[i]
    return {"name": VERTEBRA_NAMES.get(label), "label": label}


def _height_entry(heights: Mapping[str, Length | None], mean: float | None) -> Document:
    entry: Document = {place: round(h.mm, 2) if h else None for place, h in heights.items()}
    entry["mean"] = None if mean is None else round(mean, 2)
    return entry


def _visible(length: Length | None, scene: Scene) -> Length | None:
    """`length` if both its ends lie within the volume."""
    return length if length is not None and in_view(length.line, scene.shape, scene.affine) else None


def _line(length: Length | None) -> list[list[float]] | None:
    return None if length is None else [_rounded(point) for point in length.line]


def _rounded(point: FloatArray) -> list[float]:
    return [round(float(value), 2) for value in point]


def _three_digits(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _canal_entry(scene: Scene, levels: list[Document]) -> Document:
    voxel_mm3 = float(abs(np.linalg.det(scene.affine[:3, :3])))
    lengths = [level[key]["geometric"] for level in levels for key in ("canal_ap_mm", "canal_min_ap_mm")]
    diameters = [mm for mm in lengths if mm is not None]
    return {
        "volume_mm3": round(float((scene.labels == CANAL).sum()) * voxel_mm3, 1),
        "min_ap_mm": min(diameters, default=None),
    }


def _warnings(scene: Scene, region: str | None, discs: int) -> list[Document]:
    """Warnings with their texts, in the order of `MESSAGES`; nothing but `no_spine` where there is none."""
    bones = scene.chain.bones
    counts = {
        "specks_removed": scene.cleaned.specks,
        "islands_removed": scene.cleaned.islands,
        "hint_contradicted": int(_contradicted(scene.naming, region)),
        "vertebra_missed": sum(not bone.seen for bone in bones[1:-1]),
        "disc_missed": sum(disc is None for disc in scene.chain.discs),
        "too_many_discs": int(discs > MAX_DISCS),
        **dict.fromkeys(scene.naming.codes, 1),
    }
    if not bones:
        counts = {"no_spine": 1}
    values = {"reason": scene.naming.reason, "region": region}
    return [
        {"code": code, "message": text.format(n=counts[code], **values).strip()}
        for code, text in MESSAGES.items()
        if counts.get(code)
    ]


def _contradicted(naming: Naming, region: str | None) -> bool:
    """Whether an anchor named levels none of which belongs to the hinted region."""
    if region is None or naming.method not in ("sacrum", "c2", "sacrum+c2"):
        return False
    names = [name for i in range(len(naming.labels)) if (name := naming.name_of(i))]
    return not any(name.startswith(region[0].upper()) for name in names)
