"""What every phantom must be, whatever its seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from spinecore.labels import CANAL, SACRUM, Class
from spinecore.phantom import Contrast, Phantom, PhantomConfig, draw_anatomy, draw_image, make_phantom
from spinecore.phantom.artefacts import saturation_band
from spinecore.phantom.contrast import draw_contrast, draw_look
from spinecore.phantom.tissues import CLASS_OF_TISSUE, Tissue

COARSE = (2.0, 2.0, 2.0)


def small(seed: int, **choices: object) -> Phantom:
    return make_phantom(PhantomConfig(seed=seed, **{"spacing_mm": COARSE, **choices}))  # type: ignore[arg-type]


def test_equal_configurations_give_equal_phantoms() -> None:
    first, second, other = small(3), small(3), small(4)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.affine, second.affine)
    assert first.truth.to_json() == second.truth.to_json()
    assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_filled_in_configuration_gives_the_same_phantom(seed: int) -> None:
    first = make_phantom(PhantomConfig(seed=seed, fov_mm=(120.0, 100.0, 60.0)))
    again = make_phantom(first.config)
    assert again.config == first.config
    assert np.array_equal(again.image, first.image) and np.array_equal(again.affine, first.affine)


@pytest.mark.parametrize("seed", range(8))
def test_arrays_agree_in_shape_and_meaning(seed: int) -> None:
    phantom = small(seed)
    labels, classes = phantom.labels.astype(int), phantom.classes
    assert phantom.image.shape == labels.shape == classes.shape
    assert [str(a.dtype) for a in (phantom.image, phantom.labels, classes)] == ["int16", "uint8", "uint8"]
    assert phantom.image.min() >= 0 and phantom.image.std() > 0
    assert np.array_equal(classes == Class.CANAL, labels == CANAL)
    assert np.array_equal(classes == Class.SACRUM, labels == SACRUM)
    assert np.array_equal(classes == Class.C2, labels == 2)
    assert np.array_equal(classes == Class.DISC, labels > 100)
    assert np.array_equal(classes == Class.BODY, (labels >= 3) & (labels <= 24))


@pytest.mark.parametrize(
    ("region", "wanted"),
    [
        ("lumbar", {"L4", "L5", "L4/L5"}),
        ("cervical", {"C5", "C4", "C4/C5"}),
        ("thoracic", {"T6", "T7", "T6/T7"}),
    ],
)
def test_a_region_shows_its_levels(region: str, wanted: set[str]) -> None:
    fov = (400.0, 200.0, 90.0)
    phantom = small(5, region=region, fov_mm=fov)
    names = {v.name for v in phantom.truth.vertebrae} | {d.name for d in phantom.truth.discs}
    assert wanted <= names


def test_levels_are_listed_downwards_without_gaps() -> None:
    phantom = small(6, region="thoracic", fov_mm=(380.0, 200.0, 90.0))
    labels = [v.label for v in phantom.truth.vertebrae if v.label != SACRUM]
    assert labels == list(range(labels[0], labels[0] + len(labels)))
    assert all(
        100 < d.label == 100 + v for d, v in zip(phantom.truth.discs[1:], labels[1:], strict=False)
    ) or (phantom.truth.discs[0].label == 100 + labels[0])


def test_a_field_of_view_beside_the_spine_has_no_levels() -> None:
    phantom = small(9, region="none", fov_mm=(200.0, 200.0, 40.0))
    assert phantom.truth.vertebrae == () and phantom.truth.discs == ()
    assert not phantom.labels.any()


@pytest.mark.parametrize("orientation", ["PIR", "LPS", "RAS", "ASL", "SRA"])
def test_every_orientation_shows_the_same_patient(orientation: str) -> None:
    choices = {"region": "lumbar", "fov_mm": (160.0, 120.0, 80.0), "oblique_deg": 12.0}
    reference, turned = small(12, orientation="LPS", **choices), small(12, orientation=orientation, **choices)
    assert turned.config.orientation == orientation
    disc = next(d for d in reference.truth.discs if d.complete)
    other = next(d for d in turned.truth.discs if d.name == disc.name)
    assert np.allclose(disc.centroid_lps_mm, other.centroid_lps_mm, atol=2.0)
    assert disc.mean_mm == pytest.approx(other.mean_mm)
    index = np.linalg.solve(turned.affine, np.append(other.centroid_lps_mm, 1))[:3]
    x, y, z = np.rint(index).astype(int)
    assert turned.labels[z, y, x] == other.label


@pytest.mark.parametrize("seed", [21, 22])
def test_disc_centroids_and_frames_lie_in_the_scanner_frame(seed: int) -> None:
    phantom = small(seed, region="lumbar", fov_mm=(220.0, 150.0, 90.0), oblique_deg=15.0)
    z, y, x = np.nonzero(phantom.labels == CANAL)
    canal = (phantom.affine @ np.stack([x, y, z, np.ones_like(x)]))[:3].mean(axis=1)
    for disc in phantom.truth.discs:
        if not disc.complete:
            continue
        where = np.nonzero(phantom.labels == disc.label)
        centre = (phantom.affine @ np.array([*(np.mean(w) for w in reversed(where)), 1.0]))[:3]
        assert np.linalg.norm(centre - disc.centroid_lps_mm) < 3.0
        assert np.allclose(disc.frame @ disc.frame.T, np.eye(3), atol=1e-9)
        assert (canal - disc.centroid_lps_mm) @ disc.frame[1] < 0 or abs(canal[2] - centre[2]) > 60


def test_thick_slices_average_what_thin_ones_show() -> None:
    choices = {"region": "lumbar", "contrast": "t2", "artefacts": False, "fov_mm": (120.0, 120.0, 60.0)}
    thick = small(15, spacing_mm=(4.0, 1.0, 1.0), orientation="PIR", **choices)
    assert thick.image.shape == (15, 120, 120)
    assert np.allclose(np.linalg.norm(thick.affine[:3, :3], axis=0), [1.0, 1.0, 4.0])


def test_one_anatomy_gives_several_images() -> None:
    anatomy = draw_anatomy(PhantomConfig(seed=2, spacing_mm=COARSE))
    images = [draw_image(anatomy, name, np.random.default_rng(1))[0] for name in ("t1", "t2")]
    assert images[0].shape == images[1].shape == anatomy.acquired_labels.shape
    assert not np.array_equal(images[0], images[1])


def test_cerebrospinal_fluid_is_bright_in_t2_and_dark_in_t1() -> None:
    choices = {"region": "lumbar", "artefacts": False, "fov_mm": (150.0, 120.0, 60.0)}
    ratios = {}
    for contrast in ("t1", "t2"):
        phantom = small(17, contrast=contrast, **choices)
        canal, body = (phantom.image[phantom.classes == c].mean() for c in (Class.CANAL, Class.BODY))
        ratios[contrast] = canal / body
    assert ratios["t2"] > 1.1 > 0.9 > ratios["t1"]


def test_t1_orders_fluid_soft_tissue_and_marrow() -> None:
    for seed in range(200):
        mean = draw_look(np.random.default_rng(seed), "t1").mean
        soft = mean[[Tissue.MUSCLE, Tissue.CORD, Tissue.ROOTS]].min()
        assert 0 < mean[Tissue.CSF] < 0.66 * soft and mean[Tissue.BRAIN_CSF] < 0.66 * soft
        disc = mean[[Tissue.NUCLEUS, Tissue.NUCLEUS_DEGENERATE, Tissue.ANNULUS, Tissue.MUSCLE]].max()
        assert 1.14 * disc < mean[Tissue.MARROW] < 1.0
        assert mean[Tissue.LIGAMENT] < 0.71 * mean[Tissue.CSF]


@pytest.mark.parametrize(("contrast", "ratio"), [("t1", 1.2), ("t2", 1.8), ("fatsat", 1.8)])
def test_cord_and_roots_are_brighter_than_muscle(contrast: Contrast, ratio: float) -> None:
    for seed in range(200):
        mean = draw_look(np.random.default_rng(seed), contrast).mean
        assert mean[[Tissue.CORD, Tissue.ROOTS]].min() > 0.999 * ratio * mean[Tissue.MUSCLE]


@pytest.mark.parametrize("seed", [3, 4])
def test_the_canals_wall_is_dark_and_part_of_it(seed: int) -> None:
    """0.6 mm in front and 0.4 mm elsewhere, at every stenosis too; voxels 0.3 mm wide."""
    config = PhantomConfig(
        seed=seed, region="lumbar", stenosis=0.5, spacing_mm=(0.3, 0.3, 0.3), fov_mm=(45.0, 60.0, 30.0)
    )
    anatomy = draw_anatomy(config)
    deep_mm = 0.3 * distance_transform_edt(anatomy.labels == CANAL)
    canal = anatomy.labels == CANAL
    dura = anatomy.tissue == Tissue.DURA
    assert np.array_equal(CLASS_OF_TISSUE[anatomy.tissue] == Class.CANAL, canal)
    assert dura[canal & (deep_mm < 0.35)].mean() > 0.9
    assert dura[canal & (deep_mm > 0.9)].mean() < 0.01


def test_dura_looks_as_ligament_does() -> None:
    for seed in range(20):
        look = draw_look(np.random.default_rng(seed), draw_contrast(np.random.default_rng(seed)))
        for values in (look.mean, look.texture):
            assert values[Tissue.DURA] == values[Tissue.LIGAMENT]


def test_the_saturation_band_ends_in_front_of_the_column() -> None:
    for seed in range(100):
        factor = saturation_band(np.random.default_rng(seed), 200, 60)[0, :, 0]
        assert (factor[60:] > 0.85 * factor[-1]).all()
        assert np.all(np.diff(factor) >= 0)
    assert min(saturation_band(np.random.default_rng(s), 200, 60)[0, 0, 0] for s in range(20)) < 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"region": "pelvis"},
        {"contrast": "ct"},
        {"spacing_mm": (1, 0, 1)},
        {"orientation": "PIA"},
    ],
)
def test_impossible_configurations_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        PhantomConfig(**{"seed": 1, **wrong})  # type: ignore[arg-type]
