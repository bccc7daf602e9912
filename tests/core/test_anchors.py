"""Anchors of which little is segmented: used where the column ends in view, not at the image's border."""

from functools import cache

import numpy as np
import pytest

from spinecore.components import clean
from spinecore.instances import find_chain
from spinecore.labels import Class
from spinecore.levels import Naming, name_levels
from spinecore.phantom import Phantom, PhantomConfig, make_phantom

SPACING = (1.5, 1.5, 1.5)


@cache
def phantom(region: str, seed: int = 920_020) -> Phantom:
    fov = (230.0, 150.0, 60.0) if region == "cervical" else (260.0, 170.0, 70.0)
    config = PhantomConfig(seed=seed, region=region, spacing_mm=SPACING, fov_mm=fov, scoliosis=0.5,
                           orientation="LPS", artefacts=False)  # fmt: skip
    return make_phantom(config)


def naming_of(classes: np.ndarray, affine: np.ndarray) -> Naming:
    return name_levels(find_chain(clean(classes, affine).classes, affine))


def left_of(mask: np.ndarray, share: float, *, lowest: bool) -> np.ndarray:
    """`mask` (Z, Y, X, z cranial) without all but `share` of its voxels, from one end along z."""
    z = np.flatnonzero(mask.any(axis=(1, 2)))
    counts = np.cumsum(mask.sum(axis=(1, 2))[z] if lowest else mask.sum(axis=(1, 2))[z][::-1])
    kept = (z if lowest else z[::-1])[counts <= share * mask.sum()]
    result = np.zeros_like(mask)
    result[kept] = mask[kept]
    return result


def volume_mm3(classes: np.ndarray, kind: Class) -> float:
    return float((classes == kind).sum()) * float(np.prod(SPACING))


def test_a_c2_of_which_little_is_segmented_names_the_neck() -> None:
    full = phantom("cervical")
    classes = full.classes.copy()
    c2 = classes == Class.C2
    classes[c2 & ~left_of(c2, 0.25, lowest=True)] = 0
    assert 400 < volume_mm3(classes, Class.C2) < 2000
    naming = naming_of(classes, full.affine)
    assert naming.method == "c2" and naming.name_of(1) == "C3"


def test_a_c2_partly_taken_for_a_body_is_still_one_bone() -> None:
    full = phantom("cervical")
    classes = full.classes.copy()
    c2 = classes == Class.C2
    low = left_of(c2, 0.6, lowest=True)
    classes[c2] = 0
    classes[low] = Class.BODY
    classes[left_of(c2, 0.6, lowest=True) & ~left_of(c2, 0.35, lowest=True)] = Class.C2
    naming = naming_of(classes, full.affine)
    assert naming.method == "c2" and naming.name_of(1) == "C3"


def test_a_sacrum_of_which_little_is_segmented_names_the_loin() -> None:
    full = phantom("lumbar")
    classes = full.classes.copy()
    sacrum, disc = np.argwhere(classes == Class.SACRUM), np.argwhere(full.labels == 124)
    away = np.linalg.norm(sacrum - disc.mean(axis=0), axis=1)
    classes[tuple(sacrum[np.argsort(away)[round(3000 / np.prod(SPACING)) :]].T)] = 0
    assert 1000 < volume_mm3(classes, Class.SACRUM) < 4000
    naming = naming_of(classes, full.affine)
    assert naming.method == "sacrum" and naming.name_of(-2) == "L5"


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_same_piece_at_the_border_of_the_image_is_no_anchor(share: float) -> None:
    """A thoracic field of view whose cut uppermost vertebra the network took for C2."""
    full = phantom("cervical")
    classes, affine = full.classes, full.affine.copy()
    c4 = np.flatnonzero((full.labels == 4).any(axis=(1, 2)))
    top = int(c4[0] + share * len(c4))
    cropped = classes[:top].copy()
    cropped[(full.labels[:top] == 4)] = Class.C2
    assert 300 < volume_mm3(cropped, Class.C2) < 2000
    naming = naming_of(cropped, affine)
    assert not naming.named
    assert "too little of it is in view" in naming.reason or "the image ends there" in naming.reason


def test_a_sacrum_with_much_disc_among_it_is_no_anchor_and_with_little_it_is() -> None:
    full = phantom("lumbar")
    sacrum = np.argwhere(full.classes == Class.SACRUM)
    far = sacrum[:, 0] < sacrum[:, 0].min() + 0.7 * np.ptp(sacrum[:, 0])  # not up to L5/S1
    blocks = sacrum[far] // 5
    for every, method in ((6, "none"), (12, "sacrum")):
        classes = full.classes.copy()
        classes[tuple(sacrum[far][blocks @ [1, 2, 3] % every == 0].T)] = Class.DISC
        naming = naming_of(classes, full.affine)
        assert naming.method == method
        assert ("pieces of disc" in naming.reason) is (method == "none")
