"""Reads an nnU-Net results folder: the network with its weights, and what the server must know about it.

Expected inside: ``plans.json``, ``dataset.json`` and ``fold_<N>/checkpoint_final.pth``, as nnU-Net writes them.
A checkpoint is a pickle: load only checkpoints you trust, as with nnU-Net itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spinecore.errors import ModelError
from spinecore.network_spec import Channel, LabelValue, NetworkSpec, Resampling

READERS = {"NibabelIOWithReorient": "reorient_ras"}
ROLES = {"body": "vertebra", "disc": "disc", "canal": "canal", "sacrum": "sacrum", "c2": "c2"}
RESAMPLING_KINDS = {
    "resample_data_or_seg_to_shape": "default",
    "resample_torch_fornnunet": "torch",
    "resample_torch_simple": "torch",
}


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode (deep supervision off) and its description, `sha256` still empty."""

    network: nn.Module
    spec: NetworkSpec


def read_results_folder(
    folder: Path,
    *,
    fold: str = "0",
    checkpoint: str = "checkpoint_final.pth",
    name: str = "nnunet",
    version: str = "1",
    trained_on: str = "",
) -> TrainedNetwork:
    """Network and description of one fold of an nnU-Net results folder."""
    plans = _read_json(folder / "plans.json")
    dataset_json = _read_json(folder / "dataset.json")
    state = _read_checkpoint(folder / f"fold_{fold}" / checkpoint)
    network = _build_network(plans, dataset_json, state)
    spec = describe(plans, dataset_json, state, name=name, version=version, trained_on=trained_on)
    return TrainedNetwork(network, spec)


def describe(
    plans: dict[str, Any],
    dataset_json: dict[str, Any],
    state: dict[str, Any],
    *,
    name: str,
    version: str,
    trained_on: str,
) -> NetworkSpec:
    """The network's description from nnU-Net's plans, dataset.json and checkpoint."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    configuration = manager.get_configuration(state["init_args"]["configuration"])
    labels = manager.get_label_manager(dataset_json)
    mirror_axes = state.get("inference_allowed_mirroring_axes") or ()
    return NetworkSpec(
        name=name,
        version=version,
        trained_on=trained_on,
        description=str(dataset_json.get("name", plans.get("dataset_name", ""))),
        reader=READERS.get(plans["image_reader_writer"], "as_is"),
        transpose_forward=_triple(plans["transpose_forward"]),
        transpose_backward=_triple(plans["transpose_backward"]),
        spacing_mm=_spacing(configuration.spacing),
        patch_size=_triple(configuration.patch_size),
        channels=_channels(plans, dataset_json, configuration),
        resampling_data=_resampling(configuration.configuration, "data"),
        resampling_logits=_resampling(configuration.configuration, "probabilities"),
        labels={key: _label(value) for key, value in dataset_json["labels"].items()},
        regions_class_order=_regions(dataset_json, labels),
        ignore_label=labels.ignore_label,
        num_outputs=labels.num_segmentation_heads,
        mirror_axes=tuple(int(axis) for axis in mirror_axes),
        roles=_roles(dataset_json["labels"]),
    )


def _build_network(plans: dict[str, Any], dataset_json: dict[str, Any], state: dict[str, Any]) -> nn.Module:
    """As `nnUNetPredictor` does: the trainer's own builder where nnU-Net finds it, the plans' otherwise."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    configuration = manager.get_configuration(state["init_args"]["configuration"])
    try:
        trainer = recursive_find_trainer_class_by_name(state["trainer_name"])
    except (RuntimeError, ImportError):  # not found, or one of nnU-Net's own trainers cannot be imported
        trainer = nnUNetTrainer  # a trainer that only changes the training builds nnU-Net's own network
    network: nn.Module = trainer.build_network_architecture(
        manager,
        configuration,
        determine_num_input_channels(manager, configuration, dataset_json),
        manager.get_label_manager(dataset_json).num_segmentation_heads,
        enable_deep_supervision=False,
    )
    try:
        network.load_state_dict(state["network_weights"])
    except RuntimeError as error:
        raise ModelError(
            f"The checkpoint's weights do not fit the network of trainer {state['trainer_name']!r}: {error}"
        ) from None
    return network.eval()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except OSError:
        raise ModelError(f"{path.name} is missing; expected an nnU-Net results folder.") from None
    except ValueError as error:
        raise ModelError(f"{path.name} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} must hold a JSON object.")
    return content


def _read_checkpoint(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"{path.parent.name}/{path.name} is missing; expected an nnU-Net results folder.")
    state = torch.load(path, map_location="cpu", weights_only=False)
    missing = {"network_weights", "trainer_name", "init_args"} - set(state)
    if missing:
        raise ModelError(f"{path.name} is no nnU-Net checkpoint: it lacks {', '.join(sorted(missing))}.")
    return dict(state)


def _channels(plans: dict[str, Any], dataset_json: dict[str, Any], configuration: Any) -> tuple[Channel, ...]:
    names = dataset_json.get("channel_names") or dataset_json["modality"]
    intensity = plans["foreground_intensity_properties_per_channel"]
    return tuple(
        Channel(
            name=str(names[str(i)]),
            normalization=str(scheme),
            use_mask=bool(configuration.use_mask_for_norm[i]),
            intensity={key: float(value) for key, value in intensity.get(str(i), {}).items()},
        )
        for i, scheme in enumerate(configuration.normalization_schemes)
    )


def _resampling(configuration: dict[str, Any], what: str) -> Resampling:
    function = configuration[f"resampling_fn_{what}"]
    if function not in RESAMPLING_KINDS:
        raise ModelError(f"The plans resample with {function!r}, which the server does not know.")
    arguments = configuration[f"resampling_fn_{what}_kwargs"]
    return Resampling(
        kind=RESAMPLING_KINDS[function],
        order=int(arguments.get("order", 1)),
        order_z=int(arguments.get("order_z", 0)),
        force_separate_z=arguments.get("force_separate_z"),
    )


def _regions(dataset_json: dict[str, Any], labels: Any) -> tuple[int, ...] | None:
    return tuple(int(n) for n in dataset_json["regions_class_order"]) if labels.has_regions else None


def _roles(labels: dict[str, Any]) -> dict[int, str]:
    """Class number -> role, for the labels whose names say one (ours do; other models have none)."""
    known = {key.lower(): value for key, value in labels.items() if isinstance(value, int)}
    if not {"body", "disc"} <= set(known):
        return {}
    return {known[key]: role for key, role in ROLES.items() if key in known}


def _label(value: Any) -> LabelValue:
    return tuple(int(v) for v in value) if isinstance(value, (list, tuple)) else int(value)


def _triple(values: Any) -> tuple[int, int, int]:
    a, b, c = (int(v) for v in values)
    return a, b, c


def _spacing(values: Any) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c
