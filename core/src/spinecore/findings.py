"""Everything `identify` finds in one volume: the label map, the CNN's patches, and the findings document.

The findings document is JSON: the report without what only the CNN knows. Its discs are in the order of the
patches. `spinecore.report` completes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spinecore.chain import Chain, centroid_lps, points_lps
from spinecore.components import clean
from spinecore.document import Document, Measured, Scene, describe, measure_levels
from spinecore.errors import ModelError
from spinecore.field_of_view import cut_by_view, unbroken_mm, view_beyond_mm
from spinecore.frame_fit import FloatArray, LabelMap
from spinecore.geometry import Affine, Volume
from spinecore.instances import find_chain
from spinecore.labels import CANAL, Class
from spinecore.levels import Naming, OpenEnd, disc_labels, name_levels
from spinecore.patches import PATCH_CHANNELS, PATCH_SHAPE, extract_patch
from spinecore.plan import Options
from spinecore.workers import each_of

ROLES: dict[str, Class] = {
    "vertebra": Class.BODY,
    "disc": Class.DISC,
    "canal": Class.CANAL,
    "sacrum": Class.SACRUM,
    "c2": Class.C2,
}


@dataclass(frozen=True, eq=False)
class Findings:
    """labels (Z, Y, X) uint8 on the input grid, patches (N, 8, 64, 64, 32) float32, document (JSON-ready).

    Without any disc there is one patch of zeros, and ``document["discs"]`` is empty.
    """

    labels: LabelMap
    patches: NDArray[np.float32]
    document: Document


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
    if not _is_spine(chain):
        cleaned, chain = replace(cleaned, classes=np.zeros_like(cleaned.classes)), Chain()
    region = options.region if options is not None else None
    above, below = _open_ends(chain, cleaned.classes, volume.affine)
    naming = name_levels(chain, region=region, above=above, below=below)
    labels = _painted(cleaned.classes, chain, naming)
    return _described(Scene(volume, cleaned, chain, naming, labels), region)


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


def _is_spine(chain: Chain) -> bool:
    """Whether enough hangs together to be a spine: three members of the chain, e.g. a disc and two bones."""
    members = sum(bone.seen for bone in chain.bones) + sum(disc is not None for disc in chain.discs)
    return members >= 3


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
        canal_mm=unbroken_mm((canal - start) @ outward),
        view_mm=view_beyond_mm(start, outward, shape, affine),
    )


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


def _described(scene: Scene, region: str | None) -> Findings:
    measured = measure_levels(scene)
    return Findings(scene.labels, _patches(scene, measured), describe(scene, measured, region))


def _patches(scene: Scene, measured: Measured) -> NDArray[np.float32]:
    if not measured.discs:
        return np.zeros((1, PATCH_CHANNELS, *PATCH_SHAPE), dtype=np.float32)
    image = scene.volume.voxels[0]
    names = disc_labels(scene.naming)

    def patch(i: int) -> NDArray[np.float32]:
        disc, frame = scene.labels == names[i], measured.discs[i].frame
        return extract_patch(image, scene.cleaned.classes, disc, scene.affine, frame)

    return np.stack(each_of(patch, measured.discs))
