"""torch network -> ONNX bytes: only the batch dynamic, the same bytes every time.

The graph calculates in float32. For fp16 the large weights are stored as float16 and cast back in the graph
(engines fold the cast when they load), which halves the file. The network's weights are rounded to float16
*before* the export, so the ONNX file and the torch network it is compared with hold equal numbers.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from spine_export.errors import ExportError

OPSET = 17
_HALVED_FROM_ELEMENTS = 1024
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


class HalfOutput(nn.Module):
    """The network with its output cast to float16, as `segment` receives it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        """Logits (N, K, Z, Y, X) float16 of patches (N, C, Z, Y, X) float32."""
        logits: torch.Tensor = self.network(patch)
        return logits.half()


def round_weights(network: nn.Module) -> nn.Module:
    """Round the large weights to float16 in place, keeping them float32; returns the network."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() >= _HALVED_FROM_ELEMENTS:
                parameter.copy_(parameter.half().float())
    return network


def to_onnx(
    network: nn.Module,
    *,
    input_shape: tuple[int, ...],
    input_name: str,
    output_names: Sequence[str],
    half_weights: bool = True,
) -> bytes:
    """ONNX file of `network` for inputs (N, *input_shape) float32."""
    buffer: Any = io.BytesIO()  # the TorchScript exporter takes it, its signature does not say so
    names = [input_name, *output_names]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # instance_norm train=True and the old exporter's notices: harmless
            torch.onnx.export(
                network.eval(),
                (torch.zeros(1, *input_shape),),
                buffer,
                input_names=[input_name],
                output_names=list(output_names),
                opset_version=OPSET,
                dynamic_axes={name: {0: "batch"} for name in names},
                do_constant_folding=True,
                dynamo=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"torch cannot write this architecture as ONNX: {first}") from None
    model = onnx.load_from_string(buffer.getvalue())
    _check_normalisation(model, network)
    if half_weights:
        _halve_initializers(model)
    _name_producer(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _check_normalisation(model: onnx.ModelProto, network: nn.Module) -> None:
    """Instance norms must not have become batch norms with the statistics of one input frozen into them."""
    instance = any(isinstance(module, _INSTANCE_NORMS) for module in network.modules())
    batch = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    written = {node.op_type for node in model.graph.node}
    if (instance and "InstanceNormalization" not in written) or (
        "BatchNormalization" in written and not batch
    ):
        raise ExportError("The ONNX file does not hold the network's instance normalisations as such.")


def _halve_initializers(model: onnx.ModelProto) -> None:
    graph = model.graph
    casts = []
    for initializer in graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < _HALVED_FROM_ELEMENTS:
            continue
        name = initializer.name
        halved = numpy_helper.from_array(values.astype(np.float16), f"{name}.f16")
        initializer.CopyFrom(halved)
        casts.append(
            helper.make_node("Cast", [halved.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _name_producer(model: onnx.ModelProto) -> None:
    """Fixed provenance and no source locations: equal networks give equal bytes anywhere."""
    model.producer_name = "spineserve-export"
    model.producer_version = ""
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
