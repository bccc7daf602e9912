"""Everything `identify` finds in one volume: the label map, the CNN's patches, and the findings document.

The findings document is JSON: the report without what only the CNN knows. Its discs are in the order of the
patches. `spinecore.report` completes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinecore.chain import Bone, Chain, centroid_lps, points_lps
from spinecore.components import Cleaned, clean
from spinecore.errors import ModelError
from spinecore.field_of_view import cut_by_view, in_view, view_beyond_mm
from spinecore.frame_fit import FloatArray, LabelMap, Neighbours
from spinecore.geometry import Affine, Volume
from spinecore.instances import find_chain
from spinecore.labels import CANAL, VERTEBRA_NAMES, Class, disc_name
from spinecore.levels import Naming, OpenEnd, disc_labels, name_levels
from spinecore.measure import HEIGHT_AT, DiscMeasurement, Length, measure_disc
from spinecore.patches import PATCH_CHANNELS, PATCH_SHAPE, extract_patch
from spinecore.plan import Options

ROLES: dict[str, Class] = {
    "vertebra": Class.BODY,
    "disc": Class.DISC,
    "canal": Class.CANAL,
    "sacrum": Class.SACRUM,
    "c2": Class.C2,
}
MAX_DISCS = 32  # the CNN's largest batch; a spine has 23
_CANAL_REACH_MM = 60.0
_CANAL_STEP_MM = 3.0

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
class Findings:
    """labels (Z, Y, X) uint8 on the input grid, patches (N, 4, 64, 64, 32) float32, document (JSON-ready).

    Without any disc there is one patch of zeros, and ``document["discs"]`` is empty.
    """

    labels: LabelMap
    patches: NDArray[np.float32]
    document: Document


@dataclass(frozen=True, eq=False)
class _Scene:
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


def identify(
    classes: NDArray[np.uint8],
    volume: Volume,
    *,
    options: Options | None = None,
    roles: Mapping[str, str] | None = None,
) -> Findings:
    """Find, name and measure vertebrae and discs.

    Parameters
    ----------
    classes : (Z, Y, X) uint8, the network's classes on the grid of `volume`
    volume : its first channel goes into the CNN's patches
    options : the caller's; only the region hint is used here
    roles : what each class number is, as in the network's description (keys of `ROLES`); None: `labels.Class`

    Raises ModelError where a role is unknown.
    """
    cleaned = clean(_as_classes(classes, roles), volume.affine)
    chain = find_chain(cleaned.classes, volume.affine)
    if not _is_spine(chain, cleaned.classes):
        cleaned, chain = replace(cleaned, classes=np.zeros_like(cleaned.classes)), Chain()
    region = options.region if options is not None else None
    above, below = _open_ends(chain, cleaned.classes, volume.affine)
    naming = name_levels(chain, region=region, above=above, below=below)
    labels = _painted(cleaned.classes, chain, naming)
    return _described(_Scene(volume, cleaned, chain, naming, labels), region)


def _as_classes(classes: NDArray[np.uint8], roles: Mapping[str, str] | None) -> NDArray[np.uint8]:
    """The network's class numbers translated to `labels.Class` by their roles."""
    table = np.zeros(256, dtype=np.uint8)
    if roles is None:
        table[: len(Class)] = range(len(Class))
        return table[classes]
    for number, role in roles.items():
        if role not in ROLES:
            raise ModelError(f"Role {role!r} of class {number} is unknown; known are {', '.join(ROLES)}.")
        table[int(number)] = ROLES[role]
    return table[classes]


def _is_spine(chain: Chain, classes: NDArray[np.uint8]) -> bool:
    """Whether enough hangs together to be a spine: three members of the chain, or two beside a canal."""
    members = sum(bone.seen for bone in chain.bones) + sum(disc is not None for disc in chain.discs)
    return members >= 3 or (members == 2 and bool((classes == Class.CANAL).any()))


def _open_ends(chain: Chain, classes: NDArray[np.uint8], affine: Affine) -> tuple[OpenEnd, OpenEnd]:
    """What is in view above the first and below the last disc."""
    if len(chain.bones) < 2:
        return OpenEnd(), OpenEnd()
    canal = points_lps(np.flatnonzero(classes == Class.CANAL), classes.shape, affine)
    return _open_end(chain, 0, canal, classes.shape, affine), _open_end(
        chain, -1, canal, classes.shape, affine
    )


def _open_end(chain: Chain, end: int, canal: FloatArray, shape: tuple[int, ...], affine: Affine) -> OpenEnd:
    inner = end + 1 if end == 0 else end - 1
    disc, next_bone = chain.discs[end], chain.bones[inner]
    if disc is None or not next_bone.seen or cut_by_view(disc.voxels, shape, affine).along:
        return OpenEnd()
    start = centroid_lps(disc.voxels, shape, affine)
    outward = start - centroid_lps(next_bone.voxels, shape, affine)
    outward /= np.linalg.norm(outward)
    return OpenEnd(
        canal_mm=_unbroken_mm((canal - start) @ outward),
        view_mm=view_beyond_mm(start, outward, shape, affine),
    )


def _unbroken_mm(positions: FloatArray) -> float:
    """How far `positions` along a line (N,) go on from 0 without a gap, in mm."""
    step = _CANAL_STEP_MM
    filled = np.bincount(
        (positions[(positions >= 0) & (positions < _CANAL_REACH_MM)] // step).astype(np.intp)
    )
    gaps = np.flatnonzero(filled == 0)
    return step * float(gaps[0] if len(gaps) else len(filled))


def _painted(classes: NDArray[np.uint8], chain: Chain, naming: Naming) -> LabelMap:
    """Label map (Z, Y, X): canal, then every bone and disc under its label."""
    labels = np.where(classes == Class.CANAL, CANAL, 0).astype(np.uint8)
    flat = labels.ravel()
    for bone, label in zip(chain.bones, naming.labels, strict=True):
        flat[bone.voxels] = label
    for disc, label in zip(chain.discs, disc_labels(naming), strict=True):
        if disc is not None:
            flat[disc.voxels] = label
    return labels


def _described(scene: _Scene, region: str | None) -> Findings:
    places = [i for i, disc in enumerate(scene.chain.discs) if disc is not None]
    measured = [(i, _measured(scene, i)) for i in places[:MAX_DISCS]]
    discs = [_disc_entry(scene, i, m) for i, m in measured]
    document: Document = {
        "input": _input_entry(scene.volume),
        "naming": {
            "method": scene.naming.method,
            "named": scene.naming.named,
            "reason": scene.naming.reason,
        },
        "vertebrae": [_vertebra_entry(scene, i, b) for i, b in enumerate(scene.chain.bones) if b.seen],
        "discs": discs,
        "canal": _canal_entry(scene, discs),
        "warnings": _warnings(scene, region, len(places)),
    }
    return Findings(scene.labels, _patches(scene, measured), document)


def _neighbours(scene: _Scene, i: int) -> Neighbours:
    upper, lower = scene.chain.bones[i], scene.chain.bones[i + 1]
    labels = scene.naming.labels
    return Neighbours(
        disc=disc_labels(scene.naming)[i],
        upper=labels[i] if upper.seen else None,
        lower=labels[i + 1] if lower.seen else None,
    )


def _measured(scene: _Scene, i: int) -> DiscMeasurement:
    disc = scene.chain.discs[i]
    side_cut = disc is not None and cut_by_view(disc.voxels, scene.shape, scene.affine).side
    return measure_disc(scene.labels, scene.affine, _neighbours(scene, i), side_cut=side_cut)


def _patches(scene: _Scene, measured: list[tuple[int, DiscMeasurement]]) -> NDArray[np.float32]:
    if not measured:
        return np.zeros((1, PATCH_CHANNELS, *PATCH_SHAPE), dtype=np.float32)
    image = scene.volume.voxels[0]
    names = disc_labels(scene.naming)
    return np.stack(
        [
            extract_patch(image, scene.cleaned.classes, scene.labels == names[i], scene.affine, m.frame)
            for i, m in measured
        ]
    )


def _input_entry(volume: Volume) -> Document:
    return {
        "shape_zyx": list(volume.shape_zyx),
        "spacing_mm": [round(s, 4) for s in volume.spacing_zyx],
        "orientation": volume.orientation,
    }


def _vertebra_entry(scene: _Scene, i: int, bone: Bone) -> Document:
    return {
        "name": scene.naming.name_of(i),
        "label": scene.naming.labels[i],
        "centroid_lps_mm": _rounded(centroid_lps(bone.voxels, scene.shape, scene.affine)),
        "volume_mm3": round(bone.volume_mm3, 1),
        "complete": not cut_by_view(bone.voxels, scene.shape, scene.affine).along,
    }


def _disc_entry(scene: _Scene, i: int, measured: DiscMeasurement) -> Document:
    """One disc; lengths are None where the field of view or the label map does not allow them."""
    disc = scene.chain.discs[i]
    assert disc is not None
    cut = cut_by_view(disc.voxels, scene.shape, scene.affine)
    heights = {place: None if cut.along else measured.heights[place] for place in HEIGHT_AT}
    mean = None if cut.along else measured.mean_height_mm
    canal = _visible(measured.canal_ap, scene)
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
        "canal_ap_mm": {"geometric": round(canal.mm, 2) if canal else None, "cnn": None},
        "canal_ap_line_lps_mm": _line(canal),
        "complete": not cut.along,
        "flags": _disc_flags(cut.along, cut.side, mean is not None, canal is not None),
    }


def _disc_flags(cut_along: bool, cut_side: bool, has_height: bool, has_canal: bool) -> list[str]:
    flags = {
        "cut_by_field_of_view": cut_along,
        "cut_at_the_side": cut_side,
        "height_not_measured": not has_height,
        "canal_not_measured": not has_canal,
    }
    return [code for code, is_set in flags.items() if is_set]


def _level_entry(scene: _Scene, i: int) -> Document:
    label = scene.naming.labels[i]
    return {"name": VERTEBRA_NAMES.get(label), "label": label}


def _height_entry(heights: Mapping[str, Length | None], mean: float | None) -> Document:
    entry: Document = {place: round(h.mm, 2) if h else None for place, h in heights.items()}
    entry["mean"] = None if mean is None else round(mean, 2)
    return entry


def _visible(length: Length | None, scene: _Scene) -> Length | None:
    """`length` if both its ends lie within the volume."""
    return length if length is not None and in_view(length.line, scene.shape, scene.affine) else None


def _line(length: Length | None) -> list[list[float]] | None:
    return None if length is None else [_rounded(point) for point in length.line]


def _rounded(point: FloatArray) -> list[float]:
    return [round(float(value), 2) for value in point]


def _canal_entry(scene: _Scene, discs: list[Document]) -> Document:
    voxel_mm3 = float(abs(np.linalg.det(scene.affine[:3, :3])))
    diameters = [d["canal_ap_mm"]["geometric"] for d in discs if d["canal_ap_mm"]["geometric"] is not None]
    return {
        "volume_mm3": round(float((scene.labels == CANAL).sum()) * voxel_mm3, 1),
        "min_ap_mm": min(diameters, default=None),
    }


def _warnings(scene: _Scene, region: str | None, discs: int) -> list[Document]:
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
