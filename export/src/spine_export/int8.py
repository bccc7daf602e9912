"""INT8 for OpenVINO: post-training quantisation by nncf, calibrated on real preprocessed patches.

Convolutions run in 8 bits (weights per channel, activations per tensor); normalisations stay in float. Where
that moves the labels too far, nncf gives the layers that hurt most back to float, one by one.
Needs the extra ``spineserve-export[int8]``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from spine_export.config_files import IR_FILE, ONNX_FILE
from spine_export.engines import INPUT
from spine_export.errors import ExportError
from spine_export.images import Image
from spinecore.errors import InputError
from spinecore.network_spec import NetworkSpec
from spinecore.preprocessing import preprocess
from spinecore.tiling import SlidingWindow

MAX_PATCHES = 64
"""More calibrate no better and cost an inference each."""
CHECKED_PATCHES = 24
"""Patches on which the labels are compared with those of float32."""
RANKED_PATCHES = 6
"""Of these, the ones that differ most rank the layers: each layer costs an inference of each."""
MAX_DICE_LOSS = 0.005
"""Mean Dice that quantisation may cost on these patches of any image, before layers go back to float."""
WEIGHTS_FILE = "model.bin"

Patch = NDArray[np.float32]
Labels = NDArray[np.bool_]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Checked:
    """A patch (C, *patch) of an image and which outputs win where in float32: (K, *patch)."""

    image: int
    patch: Patch
    winners: Labels


def calibration_patches(
    images: Sequence[Image], spec: NetworkSpec, *, most: int = MAX_PATCHES
) -> list[list[Patch]]:
    """Per image, patches (C, *patch) as the network sees them, evenly taken from its tiles; `most` in all."""
    return [image_patches(image, spec, most=max(1, most // len(images))) for image in images]


def image_patches(image: Image, spec: NetworkSpec, *, most: int) -> list[Patch]:
    """At most `most` patches (C, *patch) of an image as the network sees them, spread over its tiles."""
    try:
        prepared = preprocess(image.volume, spec)
    except InputError as error:
        raise ExportError(f"{image.name}: {error}") from None
    window = SlidingWindow(prepared.data, patch=spec.patch_size, step_size=spec.step_size, num_outputs=1)
    return list(window.patches(_spread(window.origins, most)))


def _spread(items: Sequence[T], most: int) -> list[T]:
    numbers = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[number] for number in numbers]


def quantize(
    onnx_content: bytes,
    patches: Sequence[Sequence[Patch]],
    spec: NetworkSpec,
    *,
    max_dice_loss: float = MAX_DICE_LOSS,
) -> dict[str, bytes]:
    """ONNX float32 -> OpenVINO IR in INT8: the files model.xml and model.bin by name.

    `patches` are those of each calibration image. ExportError where nncf is missing or there are none.
    """
    try:
        import nncf
        import openvino
    except ImportError:
        raise ExportError(
            "INT8 needs nncf, which is not installed: pip install 'spineserve-export[int8]'."
        ) from None
    if not patches:
        raise ExportError("INT8 needs images to calibrate on: give some with --images.")
    nncf.set_log_level(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="spine-export-") as folder:
        source = Path(folder) / ONNX_FILE
        source.write_bytes(onnx_content)
        model = openvino.Core().read_model(source)
        with contextlib.redirect_stdout(io.StringIO()):  # nncf's progress bars
            checked = _checked(openvino, model, patches, spec)
            quantized = _quantized(nncf, model, patches, checked, spec, max_dice_loss)
        target = Path(folder) / "int8" / IR_FILE
        openvino.save_model(quantized, target, compress_to_fp16=True)
        return {name: (target.parent / name).read_bytes() for name in (IR_FILE, WEIGHTS_FILE)}


def _quantized(
    nncf: Any,
    model: Any,
    patches: Sequence[Sequence[Patch]],
    checked: Sequence[Checked],
    spec: NetworkSpec,
    max_dice_loss: float,
) -> Any:
    def agreement(compiled: Any, items: Iterable[Checked]) -> tuple[float, list[float]]:
        """The worst image's mean Dice, and each patch's, by which nncf ranks the layers."""
        pairs = [(c, _winners(compiled({INPUT: c.patch[None]})[0][0], spec)) for c in items]
        return _worst_image(pairs), [_dice([(ours, c.winners)]) for c, ours in pairs]

    flat = [patch for group in patches for patch in group]
    return nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset([{INPUT: patch[None]} for patch in flat]),
        nncf.Dataset(list(checked), lambda item: {INPUT: item.patch[None]}),
        validation_fn=agreement,
        max_drop=max_dice_loss,
        drop_type=nncf.DropType.ABSOLUTE,
        subset_size=len(flat),
        preset=nncf.QuantizationPreset.MIXED,
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
            ranking_subset_size=RANKED_PATCHES
        ),
    )


def _checked(
    openvino: Any, model: Any, patches: Sequence[Sequence[Patch]], spec: NetworkSpec
) -> list[Checked]:
    """Patches spread over each image's, with the labels of the network in float32."""
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    most = max(1, CHECKED_PATCHES // len(patches))
    chosen = [(image, patch) for image, group in enumerate(patches) for patch in _spread(group, most)]
    return [Checked(n, patch, _winners(compiled({INPUT: patch[None]})[0][0], spec)) for n, patch in chosen]


def _winners(logits: NDArray[Any], spec: NetworkSpec) -> Labels:
    """Which of the outputs (K, *patch) win: several for regions, one otherwise."""
    if spec.has_regions:
        return np.asarray(logits > 0)
    best = logits.argmax(axis=0)
    return np.stack([best == number for number in range(len(logits))])


def _worst_image(pairs: Sequence[tuple[Checked, Labels]]) -> float:
    """Smallest mean Dice of an image, as the gate counts, over its patches taken together."""
    images = {checked.image for checked, _ in pairs}
    return min(_dice([(ours, c.winners) for c, ours in pairs if c.image == image]) for image in images)


def _dice(pairs: Sequence[tuple[Labels, Labels]]) -> float:
    """Mean Dice of ours and theirs over the outputs that win anywhere in theirs."""
    both, ours, theirs = (
        np.sum([array.sum(axis=(1, 2, 3)) for array in arrays], axis=0)
        for arrays in zip(*((a & b, a, b) for a, b in pairs), strict=True)
    )
    there = theirs > 0
    return float(np.mean(2.0 * both[there] / (ours[there] + theirs[there]))) if there.any() else 1.0
