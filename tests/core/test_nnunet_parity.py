"""The pipeline against the real nnunetv2 2.8.1: same arrays in, same arrays and labels out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nnunetv2")
os.environ.setdefault("nnUNet_def_n_proc", "1")

from dynamic_network_architectures.architectures.unet import PlainConvUNet  # noqa: E402
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.inference.sliding_window_prediction import (  # noqa: E402
    compute_gaussian,
    compute_steps_for_sliding_window,
)
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402

from spinecore.geometry import Volume, lps_to_ras  # noqa: E402
from spinecore.network_spec import Channel, NetworkSpec, Resampling  # noqa: E402
from spinecore.plan import Options  # noqa: E402
from spinecore.preprocessing import preprocess  # noqa: E402
from spinecore.resampling import resample, target_shape  # noqa: E402
from spinecore.segmentation import segment  # noqa: E402
from spinecore.tiling import gaussian_importance, tile_starts  # noqa: E402

CLASSES = {"background": 0, "body": 1, "disc": 2, "canal": 3}
REGIONS = {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "canal": 3}
INTENSITY = {
    "mean": 90.0,
    "std": 40.0,
    "percentile_00_5": 3.0,
    "percentile_99_5": 180.0,
    "min": 0.0,
    "max": 250.0,
}


@dataclass(frozen=True)
class Case:
    """One synthetic volume and one model's plans."""

    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    target: tuple[float, float, float] = (1.25, 1.25, 1.25)
    transpose: tuple[int, int, int] = (0, 1, 2)
    patch: tuple[int, int, int] = (16, 16, 16)
    normalization: tuple[str, ...] = ("ZScoreNormalization",)
    use_mask: tuple[bool, ...] = (False,)
    labels: dict[str, Any] = field(default_factory=lambda: CLASSES)
    regions_class_order: tuple[int, ...] | None = None
    torch_resampling: bool = False
    mirror_axes: tuple[int, ...] = ()
    orders: tuple[int, int] = (3, 1)

    @property
    def transpose_backward(self) -> tuple[int, ...]:
        return tuple(self.transpose.index(axis) for axis in range(3))

    @property
    def num_outputs(self) -> int:
        return len(self.labels) - (self.regions_class_order is not None) - ("ignore" in self.labels)


CASES = {
    "isotropic": Case((1.0, 1.0, 1.0), (34, 30, 28)),
    "thick slices": Case((0.6, 0.6, 4.4), (60, 50, 9)),
    "thick slices in z, transposed": Case(
        (4.4, 0.7, 0.6), (9, 50, 60), transpose=(1, 2, 0), target=(1.2, 1.3, 1.25)
    ),
    "anisotropic target": Case((1.0, 1.0, 1.0), (40, 36, 30), target=(4.0, 0.9, 0.9), patch=(8, 24, 24)),
    "tied spacings": Case((0.5, 3.0, 3.0), (60, 14, 16)),
    "two channels, masks": Case(
        (0.9, 1.1, 1.3),
        (30, 28, 26),
        transpose=(2, 0, 1),
        normalization=("ZScoreNormalization", "CTNormalization"),
        use_mask=(True, False),
    ),
    "other schemes": Case(
        (1.2, 1.0, 1.3),
        (22, 30, 20),
        normalization=("NoNormalization", "RescaleTo01Normalization", "RGBTo01Normalization"),
        use_mask=(False, False, False),
    ),
    "regions": Case((1.0, 1.4, 1.2), (30, 26, 24), labels=REGIONS, regions_class_order=(1, 2, 3)),
    "ignore label": Case((1.0, 1.4, 1.2), (30, 26, 24), labels={**CLASSES, "ignore": 4}),
    "mirroring": Case((1.1, 1.1, 1.1), (28, 26, 24), mirror_axes=(0, 2)),
    "torch resampling": Case((0.8, 0.9, 1.1), (34, 30, 28), torch_resampling=True),
    "torch resampling, thick slices": Case((0.6, 0.6, 4.4), (60, 50, 9), torch_resampling=True),
    "smaller than the patch": Case((1.25, 1.25, 1.25), (20, 11, 13)),
    "cubic logits": Case((1.0, 1.1, 0.9), (30, 26, 24), orders=(3, 3)),
}


def a_volume(case: Case, seed: int = 0) -> np.ndarray:
    """Smooth blobs in 0..250 inside a block, a hole in it, zeros around: (C, Z, Y, X) float32."""
    from scipy import ndimage

    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(len(case.normalization), *case.shape))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 1))
    scaled = 20 + 200 * (smooth - smooth.min()) / np.ptp(smooth)
    z, y, x = case.shape
    inside = np.zeros(case.shape, dtype=bool)
    inside[2 : z - 1, 1 : y - 3, 1:x] = True
    inside[z // 2, y // 2, x // 2] = False
    return (scaled * inside).astype(np.float32)


def plans_of(case: Case) -> tuple[PlansManager, dict[str, Any]]:
    """nnU-Net's plans and dataset.json for `case`."""
    order_data, order_logits = case.orders
    kind = "resample_torch_fornnunet" if case.torch_resampling else "resample_data_or_seg_to_shape"
    extra = {"memefficient_seg_resampling": False} if case.torch_resampling else {"order_z": 0}

    def arguments(order: int) -> dict[str, Any]:
        own = {} if case.torch_resampling else {"order": order}
        return {"is_seg": False, "force_separate_z": None, **extra, **own}

    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "spacing": list(case.target),
        "patch_size": list(case.patch),
        "normalization_schemes": list(case.normalization),
        "use_mask_for_norm": list(case.use_mask),
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
        "resampling_fn_data": kind,
        "resampling_fn_data_kwargs": arguments(order_data),
        "resampling_fn_seg": kind,
        "resampling_fn_seg_kwargs": {**arguments(1), "is_seg": True},
        "resampling_fn_probabilities": kind,
        "resampling_fn_probabilities_kwargs": arguments(order_logits),
    }
    channels = {str(n): f"channel {n}" for n in range(len(case.normalization))}
    plans = {
        "transpose_forward": list(case.transpose),
        "transpose_backward": list(case.transpose_backward),
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": dict.fromkeys(channels, INTENSITY),
        "configurations": {"3d_fullres": configuration},
        "image_reader_writer": "SimpleITKIO",
    }
    labels = {name: list(v) if isinstance(v, tuple) else v for name, v in case.labels.items()}
    dataset = {"labels": labels, "channel_names": channels, "file_ending": ".nii.gz"}
    if case.regions_class_order:
        dataset["regions_class_order"] = list(case.regions_class_order)
    return PlansManager(plans), dataset


def spec_of(case: Case) -> NetworkSpec:
    """Our description of the same model."""
    kind = "torch" if case.torch_resampling else "default"
    back = case.transpose_backward
    return NetworkSpec(
        name="tiny",
        spacing_mm=case.target,
        patch_size=case.patch,
        channels=tuple(
            Channel(f"channel {n}", scheme, mask, INTENSITY)
            for n, (scheme, mask) in enumerate(zip(case.normalization, case.use_mask, strict=True))
        ),
        labels=case.labels,
        num_outputs=case.num_outputs,
        transpose_forward=case.transpose,
        transpose_backward=(back[0], back[1], back[2]),
        resampling_data=Resampling(kind, order=case.orders[0]),
        resampling_logits=Resampling(kind, order=case.orders[1]),
        regions_class_order=case.regions_class_order,
        ignore_label=case.labels.get("ignore"),
        mirror_axes=case.mirror_axes,
    )


def as_volume(case: Case, voxels: np.ndarray) -> Volume:
    z, y, x = case.spacing
    return Volume(voxels, np.diag([x, y, z, 1.0]))


def tiny_network(case: Case) -> Any:
    """A PlainConvUNet with random weights."""
    torch.manual_seed(3)
    return PlainConvUNet(
        len(case.normalization), 2, (6, 8), torch.nn.Conv3d, 3, [1, 2], 1, case.num_outputs, 1,
        conv_bias=True, norm_op=torch.nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU, nonlin_kwargs={"inplace": True},
    ).eval()  # fmt: skip


def as_callable(network: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The torch network as `segment` takes it; one patch at a time, so that sums fall the same way."""

    def run(patches: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate([network(torch.from_numpy(patch[None])).numpy() for patch in patches])

    return run


def reference_labels(case: Case, voxels: np.ndarray, network: Any) -> np.ndarray:
    """What nnUNetPredictor answers, in (Z, Y, X)."""
    manager, dataset = plans_of(case)
    predictor = nnUNetPredictor(
        use_mirroring=bool(case.mirror_axes), device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.manual_initialization(
        network, manager, manager.get_configuration("3d_fullres"), [network.state_dict()], dataset,
        "nnUNetTrainer", case.mirror_axes or None,
    )  # fmt: skip
    return np.asarray(predictor.predict_single_npy_array(voxels, {"spacing": list(case.spacing)}))


@pytest.mark.parametrize("name", CASES)
def test_preprocessing_gives_nnunets_array(name: str) -> None:
    case = CASES[name]
    voxels = a_volume(case)
    manager, dataset = plans_of(case)
    expected, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        voxels,
        None,
        {"spacing": list(case.spacing)},
        manager,
        manager.get_configuration("3d_fullres"),
        dataset,
    )
    prepared = preprocess(as_volume(case, voxels), spec_of(case))
    assert prepared.data.dtype == np.float32
    assert prepared.data.shape == expected.shape
    assert [list(side) for side in prepared.plan.crop] == properties["bbox_used_for_cropping"]
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(prepared.data, expected, rtol=0, atol=3e-5 * scale)


@pytest.mark.parametrize("name", CASES)
def test_labels_are_those_of_nnunetpredictor(name: str) -> None:
    case = CASES[name]
    voxels = a_volume(case, seed=1)
    network = tiny_network(case)
    expected = reference_labels(case, voxels, network)
    prepared = preprocess(as_volume(case, voxels), spec_of(case), Options(mirroring=bool(case.mirror_axes)))
    labels = segment(prepared, spec_of(case), as_callable(network))
    assert labels.shape == expected.shape == case.shape
    assert len(np.unique(expected)) > 2, "the case shows nothing: the reference sees one class only"
    assert np.mean(labels == expected) >= 0.9998


IMAGES = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize("image", ["lumbar_t2/t2_lumbar.nii.gz", "cervical_t2/t2_cervicothoracic.nii.gz"])
def test_a_real_image_file_gives_nnunets_label_file(image: str, tmp_path: Path) -> None:
    """From file to file, through nnU-Net's reorienting reader and writer and through ours."""
    nibabel = pytest.importorskip("nibabel")
    if not (IMAGES / image).exists():
        pytest.skip(f"the MR image {image} is not there")
    from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient

    stored = nibabel.load(IMAGES / image)
    array, properties = NibabelIOWithReorient().read_images([str(IMAGES / image)])
    case = Case(tuple(properties["spacing"]), array.shape[1:], target=(2.0, 2.0, 2.0), patch=(64, 64, 24))
    network = tiny_network(case)
    labels = reference_labels(case, array, network)
    NibabelIOWithReorient().write_seg(labels, str(tmp_path / "labels.nii.gz"), properties)
    expected = np.asarray(nibabel.load(tmp_path / "labels.nii.gz").dataobj).T

    voxels = np.asarray(stored.dataobj).astype(np.float32).T[None]
    spec = replace(spec_of(case), reader="reorient_ras")
    prepared = preprocess(Volume(voxels, lps_to_ras(stored.affine)), spec)
    result = segment(prepared, spec, as_callable(network))
    assert result.shape == expected.shape
    assert np.mean(result == expected) >= 0.9998


def test_batches_give_the_same_labels_as_single_patches() -> None:
    case = CASES["isotropic"]
    run = as_callable(tiny_network(case))
    prepared = preprocess(as_volume(case, a_volume(case)), spec_of(case))
    one, four = (segment(prepared, spec_of(case), run, batch_size=n) for n in (1, 4))
    np.testing.assert_array_equal(one, four)


@pytest.mark.parametrize("patch", [(16, 16, 16), (128, 128, 64), (20, 33, 7)])
def test_importance_is_nnunets_gaussian(patch: tuple[int, int, int]) -> None:
    expected = compute_gaussian(patch, value_scaling_factor=10, device=torch.device("cpu")).numpy()
    np.testing.assert_array_equal(gaussian_importance(patch), expected)


def test_tile_starts_are_nnunets() -> None:
    for size in range(16, 90, 3):
        for patch in (5, 8, 15, 16):
            for step in (0.1, 0.3, 0.5, 0.75, 1.0):
                assert [tile_starts(size, patch, step)] == compute_steps_for_sliding_window(
                    (size,), (patch,), step
                )


@pytest.mark.parametrize("order_z", [0, 1, 3])
@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("kind", ["default", "torch"])
def test_resampling_both_ways_is_nnunets(kind: str, order: int, order_z: int) -> None:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
    from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet

    fine, coarse = (0.6, 4.4, 0.7), (1.25, 1.25, 1.3)
    for old, new, shape in ((fine, coarse, (40, 9, 36)), (coarse, fine, (20, 24, 22))):
        array = np.random.default_rng(5).normal(size=(2, *shape)).astype(np.float32)
        size = target_shape(shape, spacing_mm=old, new_spacing_mm=new)
        if kind == "torch":
            expected = resample_torch_fornnunet(array, size, old, new)
        else:
            expected = resample_data_or_seg_to_shape(
                array, size, old, new, order=order, order_z=order_z, force_separate_z=None
            )
        how = replace(Resampling(), kind=kind, order=order, order_z=order_z)
        result = resample(array, size, spacing_mm=old, new_spacing_mm=new, resampling=how)
        np.testing.assert_allclose(result, expected, rtol=0, atol=3e-5)
