"""Small but real nnU-Net results folders, written with nnU-Net's own classes.

Their networks are fitted for a few seconds to tell intensities apart, because the logits of random weights
are full of near-ties, on which no two float16 computations agree.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from spine_export.describe import describe
from spine_export.images import synthetic_image
from spinecore.network_spec import LabelValue, NetworkSpec
from spinecore.preprocessing import preprocess

CONFIGURATION = "3d_fullres"
CLASSES: dict[str, LabelValue] = {"background": 0, "fat": 1, "muscle": 2, "fluid": 3}
REGIONS: dict[str, LabelValue] = {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "fluid": 3}
INTENSITY = {
    "mean": 110.0,
    "std": 55.0,
    "median": 105.0,
    "min": 0.0,
    "max": 900.0,
    "percentile_00_5": 3.0,
    "percentile_99_5": 600.0,
}
_BLOCKS = "dynamic_network_architectures.architectures.unet"


@dataclass(frozen=True)
class Kind:
    """What is special about one results folder; the defaults are a plain isotropic network.

    `mirror_axes` are those the network may be mirrored along, `normalization` has one scheme per channel.
    A `configuration` other than ``3d_fullres`` inherits all but spacing and patch from one of that name.
    """

    spacing: tuple[float, float, float] = (2.0, 2.0, 2.0)
    patch: tuple[int, int, int] = (16, 16, 16)
    transpose: tuple[int, int, int] = (0, 1, 2)
    normalization: tuple[str, ...] = ("ZScoreNormalization",)
    use_mask: tuple[bool, ...] = (False,)
    labels: Mapping[str, LabelValue] = field(default_factory=lambda: CLASSES)
    regions_class_order: tuple[int, ...] | None = None
    residual: bool = False
    folds: int = 1
    mirror_axes: tuple[int, ...] | None = None
    torch_resampling: bool = False
    reader: str = "SimpleITKIO"
    features: tuple[int, int] = (6, 8)
    configuration: str = CONFIGURATION

    @property
    def has_ignore(self) -> bool:
        """Whether a label is ignored in training."""
        return "ignore" in self.labels


def plans_of(kind: Kind) -> dict[str, Any]:
    """``plans.json`` of a two-stage network."""
    channels = len(kind.normalization)
    return {
        "dataset_name": "Dataset990_Parity",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": kind.reader,
        "transpose_forward": list(kind.transpose),
        "transpose_backward": [kind.transpose.index(axis) for axis in range(3)],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(n): INTENSITY for n in range(channels)},
        "configurations": _configurations(kind),
    }


def _configurations(kind: Kind) -> dict[str, Any]:
    grid = {"patch_size": list(kind.patch), "spacing": list(kind.spacing)}
    full = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        **grid,
        "normalization_schemes": list(kind.normalization),
        "use_mask_for_norm": list(kind.use_mask),
        "architecture": _architecture(kind),
        "batch_dice": False,
        **_resampling(kind),
    }
    if kind.configuration == CONFIGURATION:
        return {CONFIGURATION: full}
    finer = {**full, "spacing": [spacing / 2 for spacing in kind.spacing]}
    stage = {"inherits_from": CONFIGURATION, **grid, "next_stage": "3d_cascade_fullres"}
    cascade = {"inherits_from": CONFIGURATION, "previous_stage": kind.configuration}
    return {CONFIGURATION: finer, kind.configuration: stage, "3d_cascade_fullres": cascade}


def dataset_of(kind: Kind) -> dict[str, Any]:
    """``dataset.json``."""
    content: dict[str, Any] = {
        "channel_names": {str(n): f"channel {n}" for n in range(len(kind.normalization))},
        "labels": {name: list(v) if isinstance(v, tuple) else v for name, v in kind.labels.items()},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    if kind.regions_class_order is not None:
        content["regions_class_order"] = list(kind.regions_class_order)
    return content


def _architecture(kind: Kind) -> dict[str, Any]:
    blocks = (
        {"n_blocks_per_stage": [1, 2], "n_conv_per_stage_decoder": [1]}
        if kind.residual
        else {"n_conv_per_stage": [2, 2], "n_conv_per_stage_decoder": [2]}
    )
    return {
        "network_class_name": f"{_BLOCKS}.{'ResidualEncoderUNet' if kind.residual else 'PlainConvUNet'}",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": list(kind.features),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * 2,
            "strides": [[1, 1, 1], [2, 2, 2]],
            **blocks,
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _resampling(kind: Kind) -> dict[str, Any]:
    function = "resample_torch_fornnunet" if kind.torch_resampling else "resample_data_or_seg_to_shape"
    settings: dict[str, Any] = {}
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        own = (
            {"memefficient_seg_resampling": False}
            if kind.torch_resampling
            else {"order": order, "order_z": 0}
        )
        settings[f"resampling_fn_{what}"] = function
        settings[f"resampling_fn_{what}_kwargs"] = {"is_seg": what == "seg", "force_separate_z": None, **own}
    return settings


def write_results(folder: Path, kind: Kind, *, steps: int = 0) -> Path:
    """Write ``plans.json``, ``dataset.json`` and one checkpoint per fold; `steps` of fitting each."""
    plans, dataset_json = plans_of(kind), dataset_of(kind)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans, indent=2))
    (folder / "dataset.json").write_text(json.dumps(dataset_json, indent=2))
    for fold in range(kind.folds):
        network = _network(plans, dataset_json, kind.configuration, seed=fold)
        if steps:
            spec = describe(plans, dataset_json, kind.configuration, name="parity")
            with _one_thread():
                _fit(network, spec, steps, seed=fold)
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        state = checkpoint_state(network, plans, dataset_json, fold, kind)
        torch.save(state, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def checkpoint_state(
    network: nn.Module,
    plans: dict[str, Any],
    dataset_json: dict[str, Any],
    fold: int,
    kind: Kind,
) -> dict[str, Any]:
    """What nnU-Net 2.8.1's trainer saves, numpy scalars and torch device included."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.99, nesterov=True)
    log = {"mean_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(0.1)], "lrs": [0.01]}
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "logging": log,
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {
            "plans": plans,
            "configuration": kind.configuration,
            "fold": fold,
            "dataset_json": dataset_json,
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": kind.mirror_axes,
    }


def _network(
    plans: dict[str, Any], dataset_json: dict[str, Any], configuration: str, *, seed: int
) -> nn.Module:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    heads = manager.get_label_manager(dataset_json).num_segmentation_heads
    torch.manual_seed(seed)
    network: nn.Module = nnUNetTrainer.build_network_architecture(
        manager,
        manager.get_configuration(configuration),
        len(dataset_json["channel_names"]),
        heads,
        enable_deep_supervision=True,
    )
    return network


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """So small networks lose more by waiting for each other's threads than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fit(network: nn.Module, spec: NetworkSpec, steps: int, *, seed: int) -> None:
    """Teach the network to sort voxels by smoothed intensity, on patches of the synthetic image."""
    data = torch.from_numpy(preprocess(synthetic_image(spec).volume, spec).data)
    generator = torch.Generator().manual_seed(seed)
    decoder: Any = network.decoder
    decoder.deep_supervision = False
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    network.train()
    for _ in range(steps):
        patches = torch.stack([_random_patch(data, spec.patch_size, generator) for _ in range(2)])
        loss = _loss(network(patches), patches, spec)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    decoder.deep_supervision = True
    network.eval()


def _random_patch(
    data: torch.Tensor, patch: tuple[int, int, int], generator: torch.Generator
) -> torch.Tensor:
    pads = [max(0, side - size) for side, size in zip(patch, data.shape[1:], strict=True)]
    padded = nn.functional.pad(data, (0, pads[2], 0, pads[1], 0, pads[0]))
    limits = [size - side + 1 for size, side in zip(padded.shape[1:], patch, strict=True)]
    z, y, x = (int(torch.randint(limit, (1,), generator=generator)) for limit in limits)
    cut: torch.Tensor = padded[:, z : z + patch[0], y : y + patch[1], x : x + patch[2]]
    return cut


def _loss(logits: torch.Tensor, patches: torch.Tensor, spec: NetworkSpec) -> torch.Tensor:
    smooth = nn.functional.avg_pool3d(patches[:, :1], 3, stride=1, padding=1)[:, 0]
    levels = torch.quantile(smooth.flatten(), torch.tensor([0.3, 0.6, 0.85]))
    classes = torch.bucketize(smooth, levels)
    if spec.regions_class_order is None:
        return nn.functional.cross_entropy(logits, classes.clamp(max=spec.num_outputs - 1))
    members = [v if isinstance(v, tuple) else (v,) for v in spec.labels.values() if v != 0]
    targets = torch.stack([torch.isin(classes, torch.tensor(m)) for m in members], dim=1).float()
    return nn.functional.binary_cross_entropy_with_logits(logits, targets)
