"""config.pbtxt of networks, for both profiles, from the ONNX file's own inputs and outputs.

The measurement CNN and every segmentation network go through here, so names, types and sizes are never typed
twice. The Python stages' configurations are in `stages`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import TensorProto

from spine_export.errors import ExportError

Target = Literal["openvino", "tensorrt", "onnx"]
TARGETS: tuple[Target, ...] = ("openvino", "tensorrt", "onnx")
ONNX_FILE, IR_FILE, PLAN_FILE = "model.onnx", "model.xml", "model.plan"
MAX_TENSOR_ELEMENTS = 2**31 - 1
"""cuDNN and TensorRT take no larger tensor in a convolution."""

_TYPES: dict[int, str] = {TensorProto.FLOAT: "TYPE_FP32", TensorProto.FLOAT16: "TYPE_FP16"}


@dataclass(frozen=True)
class Port:
    """One input or output: Triton's type and the dims without the batch."""

    name: str
    type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Batching:
    """How a network is fed: most rows at a time, how long the GPU waits for company, and what a row is."""

    max_batch_size: int
    queue_delay_us: int
    row: str


def ports(model: onnx.ModelProto) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs of an ONNX model; ExportError unless the batch alone is dynamic."""
    return [_port(value) for value in model.graph.input], [_port(value) for value in model.graph.output]


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    batch, *rest = tensor.shape.dim
    dims = tuple(int(dim.dim_value) for dim in rest)
    if not batch.dim_param or min(dims, default=0) <= 0 or tensor.elem_type not in _TYPES:
        raise ExportError(f"The network's {value.name} must be floating, with the batch alone dynamic.")
    return Port(value.name, _TYPES[tensor.elem_type], dims)


def largest_batch(model: onnx.ModelProto, *, wanted: int) -> int:
    """`wanted`, or fewer where some tensor of the graph would pass `MAX_TENSOR_ELEMENTS`; at least 1."""
    inferred = onnx.shape_inference.infer_shapes(model)
    largest = 1
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        size = 1
        for dim in list(value.type.tensor_type.shape.dim)[1:]:
            size *= max(1, int(dim.dim_value))
        largest = max(largest, size)
    return max(1, min(wanted, MAX_TENSOR_ELEMENTS // largest))


def gpu_config(model: onnx.ModelProto, batching: Batching, *, target: Target) -> str:
    """``config.pbtxt``: a TensorRT engine, or the ONNX file itself for target ``"onnx"``."""
    platform = "onnxruntime_onnx" if target == "onnx" else "tensorrt_plan"
    return (
        "# GPU profile. The CPU profile is configs/cpu.pbtxt.\n"
        f'platform: "{platform}"\n'
        f"{_tensors(model, batching)}"
        "instance_group [ { count: 1 kind: KIND_GPU } ]\n"
        f"dynamic_batching {{ max_queue_delay_microseconds: {batching.queue_delay_us} }}\n"
    )


def cpu_config(
    model: onnx.ModelProto,
    batching: Batching,
    *,
    target: Target,
    file: str = ONNX_FILE,
    precision_hint: str = "",
) -> str:
    """``configs/cpu.pbtxt``: OpenVINO, or ONNX Runtime for target ``"onnx"``.

    `precision_hint` ``"f32"`` holds OpenVINO to float32; empty lets it take what the processor is fastest in.
    """
    backend = "onnxruntime" if target == "onnx" else "openvino"
    hint = (
        f'parameters {{ key: "INFERENCE_PRECISION_HINT" value {{ string_value: "{precision_hint}" }} }}\n'
        if precision_hint and target != "onnx"
        else ""
    )
    return (
        "# CPU profile. The GPU profile is ../config.pbtxt.\n"
        f'backend: "{backend}"\n'
        f'default_model_filename: "{file}"\n'
        f"{_tensors(model, batching)}"
        "# No dynamic batching: on a CPU it gains nothing, and alone a "
        f"{batching.row}'s answer never depends on its neighbours.\n"
        "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
        f"{hint}"
    )


def _tensors(model: onnx.ModelProto, batching: Batching) -> str:
    inputs, outputs = ports(model)
    return (
        f"max_batch_size: {batching.max_batch_size}\n"
        f"input [\n{_entries(inputs)}\n]\n"
        f"output [\n{_entries(outputs)}\n]\n"
    )


def _entries(described: list[Port]) -> str:
    return ",\n".join(
        f'  {{ name: "{port.name}" data_type: {port.type} dims: [ {", ".join(map(str, port.dims))} ] }}'
        for port in described
    )
