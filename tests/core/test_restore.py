"""Logits back to classes on the input grid, by hand and against the plain way."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from spinecore.errors import InputError
from spinecore.geometry import Volume, lps_to_ras, orientation
from spinecore.network_spec import Channel, NetworkSpec, Resampling
from spinecore.plan import Options, Plan
from spinecore.preprocessing import NETWORK_ORIENTATION, preprocess
from spinecore.restore import restore_classes
from spinecore.segmentation import segment


def a_spec(num_outputs: int = 3) -> NetworkSpec:
    return NetworkSpec(
        name="tiny",
        reader="reorient_ras",
        spacing_mm=(1.0, 1.0, 1.0),
        patch_size=(8, 8, 8),
        channels=(Channel("MR", "ZScoreNormalization"),),
        labels={"background": 0, **{f"class {n}": n for n in range(1, num_outputs)}},
        num_outputs=num_outputs,
    )


REGIONS = replace(
    a_spec(), labels={"background": 0, "all": (1, 2), "core": 2}, num_outputs=2, regions_class_order=(1, 2)
)


def a_plan(network_shape: tuple[int, int, int], input_shape: tuple[int, int, int]) -> Plan:
    """Straight from the network's grid to the input's: no crop, no turn."""
    z, y, x = (new / old for new, old in zip(network_shape, input_shape, strict=True))
    a, b, c = ((0, n) for n in input_shape)
    return Plan(
        input_shape, "RAS", "RAS", (0, 1, 2), (a, b, c), (z, y, x), (1.0, 1.0, 1.0), network_shape, 0.5, ()
    )


def the_plain_way(logits: np.ndarray, plan: Plan, order: int = 1) -> np.ndarray:
    """All classes at the fine grid at once, then the argmax."""
    zoom = [new / old for new, old in zip(plan.input_shape, plan.network_shape, strict=True)]
    fine = [
        ndimage.zoom(v.astype(float), zoom, order=order, mode="nearest", grid_mode=True).astype(np.float16)
        for v in logits
    ]
    return np.argmax(fine, axis=0)


def test_a_boundary_between_two_voxels_falls_in_the_middle() -> None:
    logits = np.zeros((2, 1, 1, 2), dtype=np.float16)
    logits[1, 0, 0] = [-1, 1]
    classes = restore_classes(logits, a_plan((1, 1, 2), (1, 1, 4)), a_spec(2))
    assert classes.tolist() == [[[0, 0, 1, 1]]]
    assert classes.dtype == np.uint8


def test_equal_logits_go_to_the_first_class() -> None:
    logits = np.ones((3, 2, 2, 2), dtype=np.float32)
    assert not restore_classes(logits, a_plan((2, 2, 2), (3, 3, 3)), a_spec()).any()
    logits[1:] = 1.00001  # the same in float16
    assert not restore_classes(logits, a_plan((2, 2, 2), (3, 3, 3)), a_spec()).any()
    logits[1:] = 1.01
    assert np.all(restore_classes(logits, a_plan((2, 2, 2), (3, 3, 3)), a_spec()) == 1)


def test_a_class_that_wins_at_no_coarse_voxel_may_win_between() -> None:
    logits = np.array([[10, 0], [9, 9], [0, 10]], dtype=np.float16).reshape(3, 1, 1, 2)
    classes = restore_classes(logits, a_plan((1, 1, 2), (1, 1, 6)), a_spec())
    assert classes.tolist() == [[[0, 0, 1, 1, 2, 2]]]


@pytest.mark.parametrize("kind", ["default", "torch"])
@pytest.mark.parametrize("shape", [(30, 44, 21), (9, 8, 7), (12, 40, 10)])
def test_leaving_out_background_changes_nothing(shape: tuple[int, int, int], kind: str) -> None:
    generator = np.random.default_rng(2)
    logits = ndimage.gaussian_filter(generator.normal(size=(3, 14, 16, 15)), (0, 2, 2, 2)).astype(np.float32)
    logits[0] += 0.4 * logits.std() + (np.arange(16)[:, None] < 5)  # mostly background
    logits = logits.astype(np.float16)
    plan = a_plan((14, 16, 15), shape)
    spec = replace(a_spec(), resampling_logits=Resampling(kind, force_separate_z=False))
    classes = restore_classes(logits, plan, spec)
    assert 0 < (classes > 0).mean() < 0.6
    assert np.mean(classes == the_plain_way(logits, plan)) > 0.9995


def test_regions_are_painted_in_their_order() -> None:
    logits = np.zeros((2, 1, 1, 4), dtype=np.float16)
    logits[0, 0, 0] = [-1, 1, 1, -1]
    logits[1, 0, 0] = [-1, -1, 1, 1]
    classes = restore_classes(logits, a_plan((1, 1, 4), (1, 1, 4)), REGIONS)
    assert classes.tolist() == [[[0, 1, 2, 2]]]


def test_nothing_found_is_background_everywhere() -> None:
    logits = np.zeros((3, 4, 4, 4), dtype=np.float16)
    logits[0] = 5
    assert not restore_classes(logits, a_plan((4, 4, 4), (9, 9, 9)), a_spec()).any()
    assert not restore_classes(-logits[:2], a_plan((4, 4, 4), (9, 9, 9)), REGIONS).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_lies_in_slices_that_are_not_used_is_left_out(axis: int) -> None:
    logits = np.zeros((2, 9, 9, 9), dtype=np.float16)
    logits[1][tuple(0 if a == axis else slice(None) for a in range(3))] = 1  # of nine slices the middle ones
    plan = a_plan((9, 9, 9), tuple(3 if a == axis else 9 for a in range(3)))  # type: ignore[arg-type]
    thick = tuple(9.0 if a == axis else 1.0 for a in range(3))
    spec = replace(a_spec(2), resampling_logits=Resampling(order_z=0, force_separate_z=True))
    classes = restore_classes(logits, replace(plan, network_spacing_mm=thick), spec)  # type: ignore[arg-type]
    assert not classes.any()


def test_slabs_and_the_whole_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(0).normal(size=(3, 10, 11, 12)).astype(np.float16)
    plan = a_plan((10, 11, 12), (23, 17, 19))
    whole = restore_classes(logits, plan, a_spec())
    monkeypatch.setattr("spinecore.restore.SLAB_VOXELS", 400)
    np.testing.assert_array_equal(restore_classes(logits, plan, a_spec()), whole)


def test_memory_does_not_grow_with_the_number_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinecore.workers.thread_count", lambda: 1)  # each thread's peak, whoever else runs
    plan = a_plan((40, 40, 40), (120, 120, 120))

    def peak(num_outputs: int) -> int:
        logits = np.random.default_rng(0).normal(size=(num_outputs, 40, 40, 40)).astype(np.float16)
        tracemalloc.start()
        restore_classes(logits, plan, a_spec(num_outputs))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(12) < 1.1 * peak(3)


def a_ball(affine: np.ndarray, shape_zyx: tuple[int, int, int]) -> np.ndarray:
    """Bright ball of radius 7 mm at LPS (3, -2, 4), dim around it, zeros at the volume's rim."""
    z, y, x = np.indices(shape_zyx)
    points = np.stack([x, y, z], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    ball = 10 + 90 * (np.linalg.norm(points - (3, -2, 4), axis=-1) < 7)
    ball[0], ball[:, 0], ball[:, :, -1] = 0, 0, 0
    return ball[None].astype(np.int16)


@pytest.mark.parametrize("spacing_xyz", [(1.0, 1.0, 1.0), (0.8, 0.9, 4.0), (4.0, 0.7, 0.7)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 2, 0)])
def test_a_thresholding_network_finds_the_ball_where_it_is(
    spacing_xyz: tuple[float, ...], axes: tuple[int, ...], transpose: tuple[int, int, int]
) -> None:
    """Any orientation, spacing and transpose: the answer comes out on the input's own voxels."""
    signs = (1, -1, 1)
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, axes] * signs * spacing_xyz
    size_xyz = [round(36 / s) for s in spacing_xyz]
    affine[:3, 3] = -affine[:3, :3] @ (np.array(size_xyz) - 1) / 2
    shape_zyx = (size_xyz[2], size_xyz[1], size_xyz[0])
    voxels = a_ball(affine, shape_zyx)
    back = tuple(transpose.index(axis) for axis in range(3))
    spec = replace(
        a_spec(2),
        channels=(Channel("MR", "NoNormalization"),),
        transpose_forward=transpose,
        transpose_backward=(back[0], back[1], back[2]),
    )

    def network(patches: np.ndarray) -> np.ndarray:
        return np.concatenate([0 * patches, patches - 55], axis=1).astype(np.float16)

    prepared = preprocess(Volume(voxels, affine), spec)
    classes = segment(prepared, spec, network, batch_size=3)
    truth = voxels[0] > 50
    assert classes.shape == truth.shape
    assert classes.flags.c_contiguous
    overlap = 2 * (truth & (classes == 1)).sum() / (truth.sum() + (classes == 1).sum())
    assert overlap > 0.9


def test_a_plan_made_for_another_network_is_refused() -> None:
    spec = a_spec(2)
    prepared = preprocess(Volume(a_ball(np.eye(4), (20, 20, 20)), np.eye(4)), spec)
    other = replace(spec, spacing_mm=(2.0, 2.0, 2.0))
    with pytest.raises(InputError, match="not prepared for"):
        segment(prepared, other, lambda patches: patches)


def test_reorienting_is_nnunets_reader(tmp_path: object) -> None:
    """The array of `NibabelIOWithReorient`, for an oblique file stored as PIL."""
    nibabel = pytest.importorskip("nibabel")
    pytest.importorskip("nnunetv2")
    from pathlib import Path

    from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient

    tilt = np.array([[0.99, 0.1, 0.02], [-0.1, 0.99, 0.05], [-0.015, -0.0515, 0.998]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.array([[0, 0, 4.0], [0.5, 0, 0], [0, -0.6, 0]])
    voxels = np.random.default_rng(0).integers(0, 900, size=(7, 16, 18)).astype(np.int16)
    path = Path(str(tmp_path)) / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels.T, lps_to_ras(affine)), path)
    expected, properties = NibabelIOWithReorient().read_images([str(path)])
    assert orientation(affine) == "PIL"

    from spinecore.geometry import reorient

    turned = reorient(Volume(voxels[None], affine), NETWORK_ORIENTATION)
    np.testing.assert_array_equal(turned.voxels, expected)
    np.testing.assert_allclose(turned.spacing_zyx, properties["spacing"], rtol=1e-6)


def test_options_reach_the_plan() -> None:
    spec = replace(a_spec(2), mirror_axes=(0, 1), step_size=0.75)
    volume = Volume(a_ball(np.eye(4), (20, 20, 20)), np.eye(4))
    plain = preprocess(volume, spec).plan
    assert (plain.step_size, plain.mirror_axes) == (0.75, ())
    asked = preprocess(volume, spec, Options(mirroring=True, step_size=0.3)).plan
    assert (asked.step_size, asked.mirror_axes) == (0.3, (0, 1))
    assert Plan.from_json(asked.to_json()) == asked


def test_mirroring_is_refused_where_the_network_was_trained_without() -> None:
    with pytest.raises(InputError, match="without mirroring"):
        preprocess(Volume(a_ball(np.eye(4), (20, 20, 20)), np.eye(4)), a_spec(2), Options(mirroring=True))


def test_a_window_is_applied_before_normalising() -> None:
    volume = Volume(a_ball(np.eye(4), (20, 20, 20)), np.eye(4))
    spec = replace(a_spec(2), channels=(Channel("MR", "NoNormalization"),))
    data = preprocess(volume, spec, Options(window_center=40, window_width=20)).data
    assert (data.min(), data.max()) == (30, 50)
    assert volume.voxels.max() == 100, "the caller's volume was changed"


def test_the_crop_is_the_box_of_nonzero_voxels() -> None:
    volume = Volume(a_ball(np.diag([-1.0, -1.0, 1.0, 1.0]), (20, 20, 20)), np.diag([-1.0, -1.0, 1.0, 1.0]))
    plan = preprocess(volume, a_spec(2)).plan
    assert plan.source_orientation == plan.network_orientation == "RAS"
    assert plan.crop == ((1, 20), (1, 20), (0, 19))


@pytest.mark.parametrize(
    ("code", "changes"), [("channels", {"channels": 2}), ("too_large", {"spacing": 0.02})]
)
def test_volumes_that_do_not_fit_the_network_are_refused(code: str, changes: dict[str, float]) -> None:
    channels = tuple(
        Channel(f"MR {n}", "ZScoreNormalization") for n in range(int(changes.get("channels", 1)))
    )
    spacing = changes.get("spacing", 1.0)
    spec = replace(a_spec(2), channels=channels, spacing_mm=(spacing, spacing, spacing))
    with pytest.raises(InputError) as caught:
        preprocess(Volume(a_ball(np.eye(4), (40, 40, 40)), np.eye(4)), spec)
    assert caught.value.code == code


def test_a_volume_of_zeros_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        preprocess(Volume(np.zeros((1, 5, 5, 5), np.int16), np.eye(4)), a_spec(2))
    assert caught.value.code == "empty_image"
