"""nnU-Net's plans and dataset.json -> the network's description, refusing what the server cannot do.

What is refused is refused here, before any weights are loaded, in one sentence each: 2-D models, cascades,
preprocessors, label managers, readers and resampling functions that are not nnU-Net's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spine_export.errors import Unsupported
from spinecore.errors import ModelError
from spinecore.network_spec import (
    ANISOTROPY_THRESHOLD,
    NORMALIZATIONS,
    Channel,
    LabelValue,
    NetworkSpec,
    Resampling,
)

READERS = {
    "SimpleITKIO": "as_is",
    "NibabelIO": "as_is",
    "Tiff3DIO": "as_is",
    "NibabelIOWithReorient": "reorient_ras",
    "SimpleITKIOWithReorient": "reorient_ras",
}
PREPROCESSORS = ("DefaultPreprocessor",)
LABEL_MANAGERS = ("LabelManager",)
RESAMPLING_KINDS = {"resample_data_or_seg_to_shape": "default", "resample_torch_fornnunet": "torch"}
_RESAMPLING_KEYWORDS = {
    "default": {"is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"},
    "torch": {
        *("is_seg", "num_threads", "memefficient_seg_resampling", "force_separate_z"),
        *("separate_z_anisotropy_threshold", "mode", "aniso_axis_mode"),
    },
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "default": {"order": 3, "force_separate_z": False},
    "torch": {"force_separate_z": None},
}
_TORCH_MODES = {"mode": "linear", "aniso_axis_mode": "nearest-exact"}


def describe(
    plans: dict[str, Any],
    dataset_json: dict[str, Any],
    configuration: str,
    *,
    name: str,
    version: str = "1",
    trained_on: str = "",
    mirror_axes: tuple[int, ...] = (),
) -> NetworkSpec:
    """The description of the network that `configuration` of `plans` names.

    Unsupported says which feature is not served, ModelError what is missing or contradictory.
    """
    try:
        return _describe(plans, dataset_json, configuration, name, version, trained_on, mirror_axes)
    except KeyError as error:
        raise ModelError(
            f"The plans or dataset.json lack {error.args[0]!r}; they are not nnU-Net v2's."
        ) from None
    except (TypeError, ValueError, IndexError, AttributeError, AssertionError, RuntimeError) as error:
        raise ModelError(f"The plans or dataset.json are not nnU-Net v2's: {error}") from None


def _describe(
    plans: dict[str, Any],
    dataset_json: dict[str, Any],
    configuration: str,
    name: str,
    version: str,
    trained_on: str,
    mirror_axes: tuple[int, ...],
) -> NetworkSpec:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    if configuration not in plans["configurations"]:
        raise ModelError(
            f"Plans and checkpoint disagree: plans.json lacks the configuration {configuration!r}."
        )
    chosen = manager.get_configuration(configuration).configuration
    _refuse_unsupported(plans, chosen, configuration)
    labels = manager.get_label_manager(dataset_json)
    return NetworkSpec(
        name=name,
        version=version,
        trained_on=trained_on,
        description=str(dataset_json.get("name", plans.get("dataset_name", ""))),
        reader=READERS[plans["image_reader_writer"]],
        transpose_forward=_triple(plans["transpose_forward"]),
        transpose_backward=_triple(plans["transpose_backward"]),
        spacing_mm=_spacing(chosen["spacing"]),
        patch_size=_triple(chosen["patch_size"]),
        channels=_channels(manager, dataset_json, chosen),
        resampling_data=_resampling(chosen, "data"),
        resampling_logits=_resampling(chosen, "probabilities"),
        labels={key: _label(value) for key, value in dataset_json["labels"].items()},
        regions_class_order=_regions(dataset_json, labels),
        ignore_label=labels.ignore_label,
        num_outputs=labels.num_segmentation_heads,
        mirror_axes=mirror_axes,
    )


def _refuse_unsupported(plans: Mapping[str, Any], chosen: Mapping[str, Any], configuration: str) -> None:
    if len(chosen["patch_size"]) != 3:
        raise Unsupported(f"The configuration {configuration!r} is 2-D; only 3-D configurations are served.")
    if chosen.get("previous_stage"):
        raise Unsupported(
            f"The configuration {configuration!r} is the second stage of a cascade: it also needs the labels "
            f"of {chosen['previous_stage']!r}, and cascades are not served."
        )
    parts = (
        ("preprocessor", chosen.get("preprocessor_name", PREPROCESSORS[0]), PREPROCESSORS),
        ("label manager", plans.get("label_manager") or LABEL_MANAGERS[0], LABEL_MANAGERS),
        ("image reader", plans["image_reader_writer"], tuple(READERS)),
    )
    for what, found, known in parts:
        if found not in known:
            raise Unsupported(f"The plans use the {what} {found!r}; served are {', '.join(known)}.")


def _channels(manager: Any, dataset_json: dict[str, Any], chosen: dict[str, Any]) -> tuple[Channel, ...]:
    names = dataset_json["channel_names"] if "channel_names" in dataset_json else dataset_json["modality"]
    intensity = manager.foreground_intensity_properties_per_channel
    schemes = chosen["normalization_schemes"]
    if len(names) != len(schemes):
        raise ModelError(
            f"dataset.json and plans.json disagree: {len(names)} channels, {len(schemes)} normalisations."
        )
    unknown = sorted(set(schemes) - set(NORMALIZATIONS))
    if unknown:
        raise Unsupported(
            f"The plans normalise with {', '.join(unknown)}; served are nnU-Net's own "
            f"({', '.join(NORMALIZATIONS)})."
        )
    return tuple(
        Channel(
            name=str(names[str(i)]),
            normalization=str(scheme),
            use_mask=bool(chosen["use_mask_for_norm"][i]),
            intensity={key: float(value) for key, value in sorted(intensity.get(str(i), {}).items())},
        )
        for i, scheme in enumerate(schemes)
    )


def _resampling(chosen: dict[str, Any], what: str) -> Resampling:
    function = chosen[f"resampling_fn_{what}"]
    if function not in RESAMPLING_KINDS:
        raise Unsupported(
            f"The plans resample {what} with the custom function {function!r}; served are "
            f"{', '.join(RESAMPLING_KINDS)}."
        )
    kind = RESAMPLING_KINDS[function]
    given = dict(chosen[f"resampling_fn_{what}_kwargs"])
    unknown = set(given) - _RESAMPLING_KEYWORDS[kind]
    odd = {key for key, usual in _TORCH_MODES.items() if given.get(key, usual) != usual}
    if unknown or odd or given.get("is_seg"):
        wrong = ", ".join(sorted(unknown | odd)) or "is_seg"
        raise Unsupported(f"The plans call {function} with arguments that are not served: {wrong}.")
    settings = {**_DEFAULTS[kind], **given}
    return Resampling(
        kind=kind,
        order=int(settings.get("order", 1)),
        order_z=int(settings.get("order_z", 0)),
        force_separate_z=settings["force_separate_z"],
        anisotropy_threshold=float(settings.get("separate_z_anisotropy_threshold", ANISOTROPY_THRESHOLD)),
    )


def _regions(dataset_json: dict[str, Any], labels: Any) -> tuple[int, ...] | None:
    return tuple(int(n) for n in dataset_json["regions_class_order"]) if labels.has_regions else None


def _label(value: Any) -> LabelValue:
    return tuple(int(v) for v in value) if isinstance(value, (list, tuple)) else int(value)


def _triple(values: Any) -> tuple[int, int, int]:
    a, b, c = (int(v) for v in values)
    return a, b, c


def _spacing(values: Any) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c
