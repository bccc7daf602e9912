"""The two exports: a segmentation network from nnU-Net's results folder, and the measurement CNN."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from spine_export.equivalence import Difference, compare, require_equal
from spine_export.measurement import (
    CNN_INPUT,
    CNN_OUTPUTS,
    FLOAT_TOLERANCE,
    MEASURE_FILE,
    PATCH_SHAPE,
    describe_cnn,
    read_checkpoint,
)
from spine_export.nnunet_folder import read_results_folder
from spine_export.onnx_file import HalfOutput, round_weights, to_onnx
from spine_export.repository import place, sha256

MODEL_FILE = "model.onnx"
NETWORK_FILE = "network.json"
INPUT, OUTPUT = "PATCH", "LOGITS"
HALF_OUTPUT_TOLERANCE = 2e-3  # one float16 step is 1e-3 of the value


@dataclass(frozen=True)
class Exported:
    """Where an export went and how it compares with torch."""

    folder: Path
    sha256: str
    size_bytes: int
    difference: Difference


def export_nnunet(
    results: Path,
    *,
    repository: Path,
    model: str = "nnunet",
    fold: str = "0",
    checkpoint: str = "checkpoint_final.pth",
    version: str = "1",
    trained_on: str = "",
) -> Exported:
    """nnU-Net results folder -> ``<repository>/<model>/1/`` with model.onnx and network.json, checked."""
    trained = read_results_folder(
        results, fold=fold, checkpoint=checkpoint, name=model, version=version, trained_on=trained_on
    )
    network = HalfOutput(round_weights(trained.network))
    shape = (len(trained.spec.channels), *trained.spec.patch_size)
    content = to_onnx(network, input_shape=shape, input_name=INPUT, output_names=[OUTPUT])
    difference = compare(content, network, input_shape=shape)
    require_equal(difference, relative=HALF_OUTPUT_TOLERANCE)
    spec = replace(trained.spec, sha256=sha256(content))
    folder = place(repository, model, {MODEL_FILE: content, NETWORK_FILE: spec.to_json().encode()})
    return Exported(folder, spec.sha256, len(content), difference)


def export_cnn(
    checkpoint: Path,
    *,
    repository: Path,
    model: str = "measure_cnn",
    version: str = "1",
    trained_on: str = "",
) -> Exported:
    """Checkpoint of the measurement CNN -> ``<repository>/<model>/1/`` with model.onnx and measure.json, checked."""
    network = round_weights(read_checkpoint(checkpoint))
    content = to_onnx(network, input_shape=PATCH_SHAPE, input_name=CNN_INPUT, output_names=CNN_OUTPUTS)
    difference = compare(content, network, input_shape=PATCH_SHAPE)
    require_equal(difference, relative=FLOAT_TOLERANCE)
    description = describe_cnn(name=model, version=version, sha256=sha256(content), trained_on=trained_on)
    folder = place(repository, model, {MODEL_FILE: content, MEASURE_FILE: description.encode()})
    return Exported(folder, sha256(content), len(content), difference)
