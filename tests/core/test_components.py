"""Clean-up: what is a speck, what is an island, and what an empty map gives."""

import numpy as np

from spinecore.components import bounding_window, clean, remove_small
from spinecore.labels import Class


def test_a_component_of_49_voxels_goes_and_one_of_50_stays() -> None:
    classes = np.zeros((20, 20, 20), np.uint8)
    classes[0, :7, :7] = Class.BODY  # 49
    classes[10, :5, :10] = Class.BODY  # 50
    cleaned, removed = remove_small(classes, min_voxels=50)
    assert removed == 1
    assert not cleaned[0].any() and (cleaned[10] == classes[10]).all()


def test_specks_are_counted_per_class() -> None:
    classes = np.zeros((20, 20, 20), np.uint8)
    classes[5, :10, :10] = Class.BODY
    classes[6, :6, :6] = Class.DISC  # 36 voxels, though it touches the body
    cleaned, removed = remove_small(classes, min_voxels=50)
    assert removed == 1 and not (cleaned == Class.DISC).any()


def test_voxels_touching_at_a_corner_belong_together() -> None:
    classes = np.zeros((60, 60, 60), np.uint8)
    classes[range(50), range(50), range(50)] = Class.DISC
    assert remove_small(classes, min_voxels=50)[1] == 0


def test_an_island_far_from_the_column_is_dropped_and_counted() -> None:
    classes = np.zeros((100, 60, 60), np.uint8)
    classes[10:40, 10:30, 10:30] = Class.BODY
    classes[45:80, 10:30, 10:30] = Class.BODY  # 5 mm above: still the column
    classes[85:95, 50:58, 50:58] = Class.BODY
    cleaned = clean(classes, np.eye(4))
    assert (cleaned.islands, cleaned.island_voxels) == (1, 640)
    assert cleaned.classes[45:80].any() and not cleaned.classes[85:].any()


def test_nearness_is_in_millimetres_not_voxels() -> None:
    classes = np.zeros((20, 60, 30), np.uint8)
    classes[2:6, 10:30, 10:30] = Class.BODY
    classes[9:18, 10:30, 10:30] = Class.BODY
    assert clean(classes, np.diag([1.0, 1.0, 1.0, 1.0])).islands == 0
    assert clean(classes, np.diag([1.0, 1.0, 6.0, 1.0])).islands == 1


def test_a_second_canal_beside_the_first_is_dropped_and_its_continuation_kept() -> None:
    classes = np.zeros((100, 60, 40), np.uint8)
    classes[10:60, 10:20, 10:20] = Class.CANAL
    classes[63:90, 10:20, 10:20] = Class.CANAL  # past a stenosis
    classes[20:50, 24:32, 10:20] = Class.CANAL  # behind it
    cleaned = clean(classes, np.eye(4)).classes
    assert not cleaned[:, 24:].any() and cleaned[63:90].any() and cleaned[10:60].any()
    turned = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1.0]])  # x down, z to the left
    sideways = clean(classes.transpose(2, 1, 0)[:, :, ::-1], turned).classes
    np.testing.assert_array_equal(sideways, cleaned.transpose(2, 1, 0)[:, :, ::-1])


def test_an_empty_map_stays_empty() -> None:
    cleaned = clean(np.zeros((8, 8, 8), np.uint8), np.eye(4))
    assert not cleaned.classes.any() and cleaned.specks == cleaned.islands == 0


def test_bounding_window_keeps_inside_the_array() -> None:
    mask = np.zeros((10, 10), bool)
    mask[0:2, 4:6] = True
    assert bounding_window(mask, margin=3) == (slice(0, 5), slice(1, 9))
    assert mask[bounding_window(np.zeros((10, 10), bool))].size == 0
