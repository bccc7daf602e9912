"""From classes to findings: label map, patches, cut structures, roles, and volumes without a spine."""

import numpy as np
import pytest

from spinecore import workers
from spinecore.errors import ModelError
from spinecore.findings import identify
from spinecore.geometry import Volume, reorient
from spinecore.labels import CANAL, SACRUM, Class


def test_box_spine_measures_as_built(box_spine, column) -> None:
    found = identify(*_input(box_spine(column(4, bottom="sacrum"))))
    assert len(found.document["discs"]) == 4
    for disc in found.document["discs"]:
        heights = disc["height_mm"]["geometric"]
        assert [heights[k] for k in ("anterior", "middle", "posterior", "mean")] == pytest.approx(
            [6] * 4, abs=0.2
        )
        assert disc["canal_ap_mm"] == {"geometric": pytest.approx(14, abs=0.2), "cnn": None}
        assert disc["complete"] and disc["flags"] == []
    assert found.document["canal"]["min_ap_mm"] == pytest.approx(14, abs=0.2)


def test_threads_change_no_bit(box_spine, column, monkeypatch: pytest.MonkeyPatch) -> None:
    case = _input(box_spine(column(5, bottom="sacrum")))
    found = []
    for threads in (1, 4):
        monkeypatch.setattr(workers, "thread_count", lambda count=threads: count)
        workers._pool.cache_clear()
        found.append(identify(*case))
    workers._pool.cache_clear()
    assert found[0].document == found[1].document
    assert found[0].patches.tobytes() == found[1].patches.tobytes()


def test_label_map_carries_the_verse_numbers(box_spine, column) -> None:
    spine = box_spine(column(3, bottom="sacrum"))
    labels = identify(*_input(spine)).labels
    assert labels.dtype == np.uint8 and labels.shape == spine.classes.shape
    assert np.unique(labels).tolist() == [0, 22, 23, 24, SACRUM, CANAL, 122, 123, 124]
    assert ((labels == CANAL) == (spine.classes == Class.CANAL)).all()


def test_one_patch_per_disc_in_the_order_of_the_document(box_spine, column) -> None:
    found = identify(*_input(box_spine(column(4, bottom="sacrum"))))
    assert found.patches.shape == (4, 8, 64, 64, 32) and found.patches.dtype == np.float32
    middle = found.patches[:, 2, 32, 40, 16]  # 8 mm in front of the patch's centre lies the disc's
    assert (middle == 1).all()


@pytest.mark.parametrize("orientation", ["RAS", "PIR", "SLA"])
def test_other_orientations_find_and_measure_the_same(box_spine, column, orientation: str) -> None:
    spine = box_spine(column(4, bottom="sacrum"))
    turned = reorient(Volume(spine.classes[None], spine.affine), orientation)
    image = reorient(spine.volume, orientation)
    expected, found = identify(*_input(spine)).document, identify(turned.voxels[0], image).document
    assert [v["name"] for v in found["vertebrae"]] == [v["name"] for v in expected["vertebrae"]]
    for a, b in zip(found["discs"], expected["discs"], strict=True):
        assert a["centroid_lps_mm"] == pytest.approx(b["centroid_lps_mm"], abs=0.02)
        assert a["height_mm"]["geometric"] == pytest.approx(b["height_mm"]["geometric"], abs=0.05)
        assert a["canal_ap_mm"]["geometric"] == pytest.approx(b["canal_ap_mm"]["geometric"], abs=0.05)
    assert found["input"]["orientation"] == orientation


def test_what_the_field_of_view_cuts_is_incomplete_and_not_measured(box_spine, column) -> None:
    spine = box_spine(["disc", *column(3, bottom="sacrum")], margin=0)
    classes, volume = _input(spine)
    cut = slice(0, classes.shape[0] - 3)  # half of the uppermost disc
    found = identify(classes[cut], Volume(volume.voxels[:, cut], volume.affine))
    first, second = found.document["discs"][:2]
    assert not first["complete"] and "cut_by_field_of_view" in first["flags"]
    assert first["height_mm"]["geometric"]["mean"] is None and first["height_lines_lps_mm"]["middle"] is None
    assert second["complete"] and second["flags"] == []
    assert [v["complete"] for v in found.document["vertebrae"]] == [True, True, True, False]


def test_a_slab_that_cuts_the_sides_is_measured_all_the_same(box_spine, column) -> None:
    spine = box_spine(column(4, bottom="sacrum"))
    classes, volume = _input(spine)
    slab = slice(14, 36)
    affine = volume.affine.copy()
    affine[0, 3] = 14
    discs = identify(classes[:, :, slab], Volume(volume.voxels[..., slab], affine)).document["discs"]
    assert all(disc["complete"] and disc["flags"] == ["cut_at_the_side"] for disc in discs)
    assert discs[1]["height_mm"]["geometric"]["mean"] == pytest.approx(6, abs=0.2)
    assert discs[1]["canal_ap_mm"]["geometric"] == pytest.approx(14, abs=0.2)


def test_an_empty_map_gives_no_levels_and_a_warning() -> None:
    volume = Volume(np.ones((1, 20, 20, 20), np.float32), np.eye(4))
    found = identify(np.zeros((20, 20, 20), np.uint8), volume)
    assert not found.labels.any()
    assert found.patches.shape == (1, 8, 64, 64, 32) and not found.patches.any()
    assert found.document["vertebrae"] == found.document["discs"] == []
    assert [w["code"] for w in found.document["warnings"]] == ["no_spine"]


def test_a_lone_blob_is_no_spine() -> None:
    classes = np.zeros((40, 40, 40), np.uint8)
    classes[10:20, 10:20, 10:20] = Class.BODY
    found = identify(classes, Volume(np.ones((1, 40, 40, 40), np.float32), np.eye(4)))
    assert not found.labels.any() and found.document["warnings"][0]["code"] == "no_spine"


def test_random_noise_does_not_crash() -> None:
    rng = np.random.default_rng(5)
    for seed in range(3):
        blobs = rng.random((12, 12, 12)) > 0.5 + 0.15 * seed
        classes = (np.kron(blobs, np.ones((4, 4, 4))) * rng.integers(0, 6, (48, 48, 48))).astype(np.uint8)
        identify(classes, Volume(rng.normal(size=(1, 48, 48, 48)).astype(np.float32), np.eye(4)))


@pytest.mark.parametrize(("bones", "discs"), [(1, 0), (2, 1)])
def test_a_disc_and_one_bone_are_no_spine_even_beside_a_canal(bones: int, discs: int) -> None:
    classes = np.zeros((60, 50, 20), np.uint8)
    classes[:, 5:15] = Class.CANAL
    classes[24:30, 17:42, 2:18] = Class.DISC
    classes[31:50, 17:42, 2:18] = Class.BODY
    if bones == 2:
        classes[4:23, 17:42, 2:18] = Class.BODY
    affine = np.diag([1.5, -1.5, 1.5, 1.0])
    found = identify(classes, Volume(np.zeros((1, *classes.shape), np.float32), affine))
    assert (len(found.document["discs"]), len(found.document["vertebrae"])) == (discs, bones if discs else 0)


def test_roles_translate_the_networks_own_numbers(box_spine, column) -> None:
    spine = box_spine(column(3, bottom="sacrum"))
    roles = {"9": "vertebra", "4": "disc", "1": "canal", "7": "sacrum"}
    own = np.zeros(256, np.uint8)
    for number, kind in (("9", Class.BODY), ("4", Class.DISC), ("1", Class.CANAL), ("7", Class.SACRUM)):
        own[kind] = int(number)
    found = identify(own[spine.classes], spine.volume, roles=roles)
    np.testing.assert_array_equal(found.labels, identify(*_input(spine)).labels)


def test_an_unknown_role_is_refused() -> None:
    volume = Volume(np.ones((1, 8, 8, 8), np.float32), np.eye(4))
    with pytest.raises(ModelError, match="femur"):
        identify(np.zeros((8, 8, 8), np.uint8), volume, roles={"1": "femur"})


def _input(spine) -> tuple[np.ndarray, Volume]:
    return spine.classes, spine.volume
