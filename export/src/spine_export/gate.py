"""The gate: an exported network through the real pipeline, against nnUNetPredictor, on the same images.

Ours: the request as a client sends it, `spinecore`'s pre- and post-processing, and the server's engine.
Theirs: nnunetv2's predictor on torch, in float32 on the CPU.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spine_export.agreement import agreement
from spine_export.engines import RunningNetwork
from spine_export.errors import ExportError, GateError
from spine_export.images import Image
from spine_export.nnunet_folder import TrainedNetwork
from spine_export.resources import measured
from spinecore import contract
from spinecore.errors import InputError
from spinecore.geometry import restore_orientation
from spinecore.network_spec import NetworkSpec
from spinecore.preprocessing import NETWORK_ORIENTATION, preprocess
from spinecore.restore import restore_classes
from spinecore.segmentation import predict_logits


@dataclass(frozen=True)
class Tolerance:
    """What is asked of a precision: least part of equal voxels, worst and mean Dice of counted classes."""

    equal_voxels: float = 0.0
    worst_dice: float = 0.0
    mean_dice: float = 0.0


TOLERANCES = {
    "fp32": Tolerance(equal_voxels=0.9999, worst_dice=0.999),
    "fp16": Tolerance(mean_dice=0.99),
    "int8": Tolerance(mean_dice=0.98),
}
UNTRAINED = Tolerance(equal_voxels=0.999)
"""For random weights, whose logits are full of near-ties, in float32."""


@dataclass(frozen=True)
class Comparison:
    """One image: how far the two sides are apart, and what each of them took."""

    image: str
    shape: tuple[int, ...]
    equal_voxels: float
    dice: dict[str, float]
    counted: tuple[str, ...]
    largest_logit_difference: float
    mean_logit_difference: float
    logit_scale: float
    seconds: float
    seconds_nnunet: float
    peak_mb: float | None
    peak_mb_nnunet: float | None

    @property
    def worst_dice(self) -> float:
        """Smallest Dice of the counted classes; 1 where none counts."""
        return min((self.dice[name] for name in self.counted), default=1.0)

    @property
    def mean_dice(self) -> float:
        """Mean Dice of the counted classes; 1 where none counts."""
        return float(np.mean([self.dice[name] for name in self.counted])) if self.counted else 1.0

    def misses(self, tolerance: Tolerance) -> list[str]:
        """What falls short of `tolerance`, as clauses; empty when all is within."""
        found = []
        for what, least in asdict(tolerance).items():
            value = getattr(self, what)
            if not value >= least:
                found.append(f"{what.replace('_', ' ')} {value:.5f} below {least}")
        return found

    def to_json(self) -> dict[str, Any]:
        """All figures, JSON-ready."""
        return {**asdict(self), "worst_dice": self.worst_dice, "mean_dice": self.mean_dice}


@dataclass(frozen=True)
class Answer:
    """One side's answer: logits on the network's grid, labels on the image's, and what it took."""

    logits: NDArray[Any]
    labels: NDArray[np.integer[Any]]
    seconds: float
    peak_mb: float | None


def compare_on(
    image: Image,
    trained: TrainedNetwork,
    network: RunningNetwork,
    *,
    batch_size: int = 1,
    reference: Answer | None = None,
) -> Comparison:
    """Run both sides on one image, or ours alone where the `reference` (their answer) is known.

    ExportError where the image does not suit the network.
    """
    ours = served_answer(image, trained.spec, network, batch_size=batch_size)
    theirs = reference or nnunet_answer(image, trained)
    if ours.labels.shape != theirs.labels.shape or ours.logits.shape != theirs.logits.shape:
        raise GateError(
            f"{image.name}: our grids are {ours.logits.shape} and {ours.labels.shape}, nnU-Net's "
            f"{theirs.logits.shape} and {theirs.labels.shape}."
        )
    gap = np.abs(ours.logits.astype(np.float32) - theirs.logits.astype(np.float32))
    agreed = agreement(ours.labels, theirs.labels, _painted(trained.spec))
    return Comparison(
        image=image.name,
        shape=image.volume.shape_zyx,
        equal_voxels=agreed["equal_voxels"],
        dice=agreed["dice"],
        counted=tuple(agreed["counted"]),
        largest_logit_difference=float(gap.max()),
        mean_logit_difference=float(gap.mean()),
        logit_scale=float(np.std(theirs.logits.astype(np.float32))),
        seconds=ours.seconds,
        seconds_nnunet=theirs.seconds,
        peak_mb=ours.peak_mb,
        peak_mb_nnunet=theirs.peak_mb,
    )


def served_answer(image: Image, spec: NetworkSpec, network: RunningNetwork, *, batch_size: int = 1) -> Answer:
    """Our side: from the request's tensors to the label map, as the server's stages do it."""
    with measured() as usage:
        try:
            tensors = contract.encode_volume(image.volume)
            volume = contract.decode_volume(*(tensors[each.name] for each in contract.REQUEST[:4]))
            prepared = preprocess(volume, spec)
        except InputError as error:
            raise ExportError(f"{image.name}: {error}") from None
        logits = predict_logits(prepared, spec, network.run, batch_size=batch_size)
        labels = restore_classes(logits, prepared.plan, spec)
    return Answer(logits, labels, usage.seconds, usage.peak_mb)


def nnunet_answer(image: Image, trained: TrainedNetwork) -> Answer:
    """Their side: nnUNetPredictor's own steps (`predict_single_npy_array`), with the logits kept."""
    os.environ.setdefault("nnUNet_def_n_proc", "1")
    from nnunetv2.inference.data_iterators import PreprocessAdapterFromNpy
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape as convert,
    )

    with measured() as usage, contextlib.redirect_stdout(io.StringIO()):
        predictor = make_predictor(trained)
        manager, configuration = predictor.plans_manager, predictor.configuration_manager
        properties = {"spacing": list(image.spacing)}
        adapter = PreprocessAdapterFromNpy(
            [image.array.copy()], [None], [properties], [None], manager, trained.dataset_json, configuration,
            num_threads_in_multithreaded=1,
        )  # fmt: skip
        case = next(adapter)
        logits = predictor.predict_logits_from_preprocessed_data(case["data"]).cpu()
        labels = convert(logits, manager, configuration, predictor.label_manager, case["data_properties"])
    labels = np.asarray(labels)
    if trained.spec.reader == "reorient_ras":  # as nnU-Net's writer does it
        source = image.volume.orientation
        labels = restore_orientation(labels, source=source, target=NETWORK_ORIENTATION)
    return Answer(logits.numpy(), labels, usage.seconds, usage.peak_mb)


def make_predictor(trained: TrainedNetwork) -> Any:
    """nnUNetPredictor on the CPU with the folds of `trained`, stepping and mirroring as described."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from spine_export.architecture import build_fold

    spec, first = trained.spec, trained.checkpoints[0]
    predictor = nnUNetPredictor(
        tile_step_size=spec.step_size,
        use_mirroring=spec.mirroring,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    manager = PlansManager(trained.plans)
    predictor.manual_initialization(
        build_fold(trained.plans, trained.dataset_json, first),
        manager,
        manager.get_configuration(first.configuration),
        [checkpoint.weights for checkpoint in trained.checkpoints],
        trained.dataset_json,
        first.trainer,
        spec.mirror_axes or None,
    )
    return predictor


def _painted(spec: NetworkSpec) -> dict[int, str]:
    """The names of what a label map of `spec` may show, by number, background apart."""
    if spec.regions_class_order is not None:
        return {number: str(number) for number in spec.regions_class_order}
    plain = {name: value if isinstance(value, int) else value[0] for name, value in spec.labels.items()}
    return {number: name for name, number in plain.items() if number and name != "ignore"}


def require(comparisons: Sequence[Comparison], tolerance: Tolerance, *, precision: str, engine: str) -> None:
    """GateError naming every image that misses `tolerance`."""
    missed = [
        f"{each.image}: {', '.join(found)}" for each in comparisons if (found := each.misses(tolerance))
    ]
    if missed:
        raise GateError(f"{precision} on {engine} misses its tolerance ({'; '.join(missed)}).")
