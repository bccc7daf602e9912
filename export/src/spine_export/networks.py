"""The two exports: a segmentation network from nnU-Net's results folder, and the measurement CNN.

Everything is written aside and checked there; then it is moved into the repository in one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import onnx
from torch import nn

from spine_export import stages
from spine_export.architecture import FoldMean, FoldStack
from spine_export.checkpoints import ALL, FINAL
from spine_export.config_files import (
    IR_FILE,
    ONNX_FILE,
    Batching,
    Target,
    cpu_config,
    gpu_config,
    largest_batch,
)
from spine_export.engines import INPUT, OUTPUT, load_network
from spine_export.equivalence import Difference, compare, compare_runs, require_close, require_equal
from spine_export.errors import ExportError
from spine_export.files import sha256
from spine_export.gate import TOLERANCES, Comparison, compare_on, require
from spine_export.images import Image, read_images, synthetic_image
from spine_export.int8 import MAX_DICE_LOSS, WEIGHTS_FILE, calibration_patches, image_patches, quantize
from spine_export.leaves import Mode, as_leaf, is_leaf
from spine_export.measurement import (
    CNN_INPUT,
    CNN_OUTPUTS,
    FLOAT_TOLERANCE,
    MEASURE_FILE,
    PATCH_SHAPE,
    describe_cnn,
    read_checkpoint,
)
from spine_export.nnunet_folder import TrainedNetwork, read_results_folder
from spine_export.onnx_file import HalfOutput, round_weights, to_onnx
from spine_export.repository import VERSION, Staging, check_repository
from spine_export.tensorrt_engine import find_gpu, tensorrt_version
from spinecore import contract
from spinecore.network_spec import NetworkSpec

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp16", "fp32", "int8")
NETWORK_FILE = "network.json"
HALF_OUTPUT_TOLERANCE = 2e-3  # one float16 step is 1e-3 of the value
ENGINE_TOLERANCE = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.2}
"""Mean logit difference on patches, as a part of the logits' standard deviation (fp16 may run in bf16)."""

WORKSPACE_BYTES = 4 * 2**30
NETWORK_BATCHING = Batching(contract.NETWORK_BATCH, queue_delay_us=2000, row="patch")
CNN_BATCHING = Batching(contract.MEASURE_BATCH, queue_delay_us=1000, row="volume")


@dataclass(frozen=True)
class Exported:
    """Where an export went, how it compares with torch, and which entry models serve it."""

    folder: Path
    sha256: str
    size_bytes: int
    difference: Difference
    entries: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    engine: str = ""
    lent_cnn: bool = False
    """Whether SpineServe's own measurement CNN was put beside it, for there was none."""


def export_nnunet(
    results: Path,
    *,
    repository: Path,
    model: str = stages.DEFAULT_NETWORK,
    folds: str | Sequence[str] = ALL,
    checkpoint: str = FINAL,
    trusted: bool = False,
    precision: Precision = "fp16",
    target: Target = "openvino",
    mirror: bool = False,
    step_size: float = 0.5,
    labels: Path | None = None,
    images: Sequence[Path] = (),
    version: str = "1",
    trained_on: str = "",
    leaf: Mode | None = None,
) -> Exported:
    """nnU-Net results folder -> a network in `repository` with its stages and entry models, checked.

    A `leaf` stands beside the network `model` that is there, for one of its modes, and gets neither.

    Raises ModelError for a damaged or contradictory results folder, ExportError for what is not supported,
    GateError for a network that misses its tolerance. The repository is as before then.
    """
    _check_request(repository, model, precision, target)
    trained = read_results_folder(
        results,
        folds=folds,
        checkpoint=checkpoint,
        trusted=trusted,
        name=model,
        version=version,
        trained_on=trained_on,
        mirror=mirror,
        step_size=step_size,
        labels=labels,
    )
    ending = str(trained.dataset_json.get("file_ending", ".nii.gz"))
    given = read_images(images, trained.plans, ending) if images else []
    return export_trained(
        trained,
        repository=repository,
        precision=precision,
        target=target,
        images=given,
        calibration=given,
        leaf=leaf,
    )


def export_trained(
    trained: TrainedNetwork,
    *,
    repository: Path,
    precision: Precision = "fp16",
    target: Target = "openvino",
    images: Sequence[Image] = (),
    calibration: Sequence[Image] = (),
    max_dice_loss: float = MAX_DICE_LOSS,
    leaf: Mode | None = None,
) -> Exported:
    """As `export_nnunet`, of a results folder that has been read, with images in memory.

    `images` are for the gate, `calibration` for INT8, which gives layers back to float until all others cost
    no more than `max_dice_loss`.
    """
    if leaf is not None:
        trained = as_leaf(trained, leaf, repository=repository, precision=precision)
    model = trained.spec.name
    _check_request(repository, model, precision, target)
    _check_entries(repository, model, trained.spec)
    if precision == "fp32":
        trained = _with_folds_apart(trained)
    content, difference = _network_onnx(trained, precision)
    files, digest = _network_files(trained, content, precision, calibration, max_dice_loss)
    spec = replace(trained.spec, sha256=digest, precision=precision)
    described = replace(trained, spec=spec)
    with Staging(repository) as staging:
        staging.write({f"{model}/{VERSION}/{name}": data for name, data in files.items()})
        staging.write({f"{model}/{VERSION}/{NETWORK_FILE}": spec.to_json().encode()})
        staging.write(_configs(model, content, NETWORK_BATCHING, precision, target))
        entries = () if leaf else _write_stages(staging, spec)
        lent_cnn = (staging.folder / stages.DEFAULT_CNN).is_dir()
        engine = check_patches(described, staging.folder / model, precision, images[:1])
        comparisons = check_images(described, staging.folder / model, precision, images)
        if target == "tensorrt":
            _build_engine(staging, precision)
        staging.commit()
    size = sum(len(data) for data in files.values())
    folder = repository / model / VERSION
    return Exported(folder, digest, size, difference, entries, tuple(comparisons), engine, lent_cnn)


def _build_engine(staging: Staging, precision: Precision) -> None:
    """Put the TensorRT engine beside the staged network, for the GPU of this machine."""
    from spine_export.engine_cache import build_engines

    for _ in build_engines(staging.folder, cache=None, precision=precision, workspace_bytes=WORKSPACE_BYTES):
        pass


def _check_request(repository: Path, model: str, precision: Precision, target: Target) -> None:
    stages.check_name(model, reserved=(stages.DEFAULT_CNN,))
    check_repository(repository)
    if precision == "int8" and target != "openvino":
        raise ExportError(f"INT8 is made for the target openvino, not {target}.")
    if target == "tensorrt":  # known to be missing before any work is done
        tensorrt_version()
        find_gpu()


def _check_entries(repository: Path, model: str, spec: NetworkSpec) -> None:
    """A network that is no spine's must not slip under an entry that reports on spines."""
    entry = stages.stage_name(stages.SPINE_ENTRY, model)
    if not spec.roles and (repository / entry).is_dir():
        raise ExportError(
            f"{entry} in {repository} reports on the spine by the network {model}, but this network's labels "
            "are no spine structures; choose another --name, or say what they are with --labels."
        )


def _with_folds_apart(trained: TrainedNetwork) -> TrainedNetwork:
    """The network with its folds' logits one behind another: nnU-Net averages them after merging."""
    if not isinstance(trained.network, FoldMean):
        return trained
    folds = list(trained.network.folds)
    return replace(trained, network=FoldStack(folds), spec=replace(trained.spec, folds=len(folds)))


def _network_onnx(trained: TrainedNetwork, precision: Precision) -> tuple[bytes, Difference]:
    """The ONNX file, held to torch in ONNX Runtime. fp16: weights rounded and stored so, logits float16."""
    network: nn.Module = trained.network
    if precision == "fp16":
        network = HalfOutput(round_weights(network))
    shape = (len(trained.spec.channels), *trained.spec.patch_size)
    half = precision == "fp16"
    content = to_onnx(network, input_shape=shape, input_name=INPUT, output_names=[OUTPUT], half_weights=half)
    difference = compare(content, network, input_shape=shape)
    require_equal(difference, relative=HALF_OUTPUT_TOLERANCE if half else FLOAT_TOLERANCE)
    return content, difference


def _network_files(
    trained: TrainedNetwork,
    content: bytes,
    precision: Precision,
    images: Sequence[Image],
    max_dice_loss: float,
) -> tuple[dict[str, bytes], str]:
    """Files beside network.json, and the SHA-256 of what is served (INT8: model.xml and model.bin)."""
    files = {ONNX_FILE: content}
    if precision != "int8":
        return files, sha256(content)
    patches = calibration_patches(images, trained.spec)
    quantized = quantize(content, patches, trained.spec, max_dice_loss=max_dice_loss)
    return files | quantized, sha256(quantized[IR_FILE] + quantized[WEIGHTS_FILE])


def _configs(
    model: str, content: bytes, batching: Batching, precision: Precision, target: Target
) -> dict[str, bytes]:
    """Both profiles' config.pbtxt of a network, by their path in the repository."""
    graph = onnx.load_from_string(content)
    batching = replace(batching, max_batch_size=largest_batch(graph, wanted=batching.max_batch_size))
    hint = "f32" if precision == "fp32" else ""
    file = IR_FILE if precision == "int8" else ONNX_FILE
    cpu = cpu_config(graph, batching, target=target, file=file, precision_hint=hint)
    return {
        f"{model}/config.pbtxt": gpu_config(graph, batching, target=target).encode(),
        f"{model}/configs/cpu.pbtxt": cpu.encode(),
    }


def _write_stages(staging: Staging, spec: NetworkSpec) -> tuple[str, ...]:
    """Write the stages that the repository lacks around a network; the names of its entry models.

    A spine network's report needs a measurement CNN: where there is none, SpineServe's own is put in.
    """
    wanted, entries = list(stages.PLAIN_STAGES), [stages.stage_name(stages.PLAIN_ENTRY, spec.name)]
    there = (staging.repository / stages.DEFAULT_CNN / VERSION).is_dir()
    lent = stages.cnn_files() if spec.roles and not there else {}
    staging.write(lent)
    if spec.roles and (there or lent):
        wanted += stages.SPINE_STAGES
        entries.append(stages.stage_name(stages.SPINE_ENTRY, spec.name))
    _write_missing(staging, wanted, spec.name)
    return tuple(entries)


def _write_missing(staging: Staging, wanted: Sequence[str], network: str) -> None:
    missing = [s for s in wanted if not (staging.repository / stages.stage_name(s, network)).exists()]
    staging.write(stages.stage_files(missing, network))


def check_patches(
    trained: TrainedNetwork, model_folder: Path, precision: Precision, images: Sequence[Image] = ()
) -> str:
    """Hold the network, as its engine runs it, to torch on patches of an image; what the engine is.

    Without images a synthetic one is taken. GateError where it is too far from torch.
    """
    image = images[0] if images else synthetic_image(trained.spec)
    patches = image_patches(image, trained.spec, most=2)
    network = load_network(model_folder)
    difference = compare_runs(lambda p: [network.run(p)], trained.network, [patch[None] for patch in patches])
    require_close(difference, mean_of_spread=ENGINE_TOLERANCE[precision], engine=network.description)
    return network.description


def check_images(
    trained: TrainedNetwork, model_folder: Path, precision: Precision, images: Sequence[Image]
) -> list[Comparison]:
    """The gate (see `gate`) on real images; GateError where the precision's tolerance is missed."""
    if not images:
        return []
    network = load_network(model_folder)
    comparisons = [compare_on(image, trained, network) for image in images]
    require(comparisons, TOLERANCES[precision], precision=precision, engine=network.description)
    return comparisons


def export_cnn(
    checkpoint: Path,
    *,
    repository: Path,
    model: str = stages.DEFAULT_CNN,
    version: str = "1",
    trained_on: str = "",
) -> Exported:
    """Checkpoint of the measurement CNN -> a network in `repository`, checked against torch.

    Where the repository holds spine networks without their `spine_mri`, that entry is added now.
    """
    stages.check_name(model, reserved=(stages.DEFAULT_NETWORK,))
    check_repository(repository)
    network = round_weights(read_checkpoint(checkpoint))
    content = to_onnx(network, input_shape=PATCH_SHAPE, input_name=CNN_INPUT, output_names=CNN_OUTPUTS)
    difference = compare(content, network, input_shape=PATCH_SHAPE)
    require_equal(difference, relative=FLOAT_TOLERANCE)
    digest = sha256(content)
    description = describe_cnn(name=model, version=version, sha256=digest, trained_on=trained_on)
    with Staging(repository) as staging:
        files = {ONNX_FILE: content, MEASURE_FILE: description.encode()}
        staging.write({f"{model}/{VERSION}/{name}": data for name, data in files.items()})
        staging.write(_configs(model, content, CNN_BATCHING, "fp16", "openvino"))
        entries = _complete_spines(staging) if model == stages.DEFAULT_CNN else ()
        staging.commit()
    return Exported(repository / model / VERSION, digest, len(content), difference, entries)


def _complete_spines(staging: Staging) -> tuple[str, ...]:
    entries = []
    for path in sorted(staging.repository.glob(f"[!.]*/{VERSION}/{NETWORK_FILE}")):
        name = path.parent.parent.name
        if is_leaf(name, staging.repository):
            continue
        entry = stages.stage_name(stages.SPINE_ENTRY, name)
        if NetworkSpec.load(path).roles and not (staging.repository / entry).exists():
            _write_missing(staging, stages.SPINE_STAGES, name)
            entries.append(entry)
    return tuple(entries)
