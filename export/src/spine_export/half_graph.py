"""ONNX float32 -> float16 arithmetic with normalisation kept in float32, written into the graph itself.

fp16 engines have given black masks because InstanceNorm overflows or loses its small variances there (nnU-Net
issues 2874, 3026). A strongly typed TensorRT network does what the graph says, so the casts are in the graph,
where ONNX Runtime can check them without a GPU. Inputs and outputs keep their types.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KEPT_IN_FLOAT = frozenset(
    {
        *("InstanceNormalization", "BatchNormalization", "LayerNormalization", "GroupNormalization"),
        *(
            "ReduceMean",
            "ReduceSum",
            "ReduceSumSquare",
            "ReduceL2",
            "Softmax",
            "LogSoftmax",
            "Sqrt",
            "Pow",
            "Exp",
        ),
    }
)
"""Operators that run in float32: normalisations, and what they are built from where they are spelt out."""

_LARGEST_HALF = 65504.0


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float32 `model` that calculates in float16 except for `KEPT_IN_FLOAT`.

    Weights stored as float16 with a Cast behind them (see `onnx_file`) are used as they are.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    return _Rewriter(half).run()


class _Rewriter:
    """Walks the nodes in order, knowing of every value whether it is float16 by now."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._nodes: list[onnx.NodeProto] = []
        self._is_half: dict[str, bool] = {}
        self._casts: dict[tuple[str, bool], str] = {}
        self._constants = {each.name: each for each in model.graph.initializer}

    def run(self) -> onnx.ModelProto:
        graph = self._model.graph
        for value in graph.input:
            self._is_half[value.name] = value.type.tensor_type.elem_type == TensorProto.FLOAT16
        for name, constant in self._constants.items():
            if constant.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
                self._is_half[name] = constant.data_type == TensorProto.FLOAT16
        for node in list(graph.node):
            self._rewrite(node)
        self._restore_outputs()
        del graph.node[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        self._drop_unused_constants()
        onnx.checker.check_model(self._model)
        return self._model

    def _rewrite(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant":
            self._constant(node)
        elif node.op_type == "Cast" and node.input[0] in self._is_half:
            self._float_cast(node)
        else:
            half = node.op_type not in KEPT_IN_FLOAT
            floats = [name for name in node.input if name in self._is_half]
            for index, name in enumerate(node.input):
                if name in self._is_half and not self._is_size(node, index):
                    node.input[index] = self._as(name, half)
            self._nodes.append(node)
            if floats:
                self._is_half.update(dict.fromkeys(node.output, half))

    @staticmethod
    def _is_size(node: onnx.NodeProto, index: int) -> bool:
        """Resize takes its scales (and region of interest) in float32 whatever the data is."""
        return node.op_type in ("Resize", "Upsample") and index > 0

    def _constant(self, node: onnx.NodeProto) -> None:
        for attribute in node.attribute:
            if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
                self._is_half[node.output[0]] = False
        self._nodes.append(node)

    def _float_cast(self, node: onnx.NodeProto) -> None:
        """A cast between float types is dropped: whoever uses the value casts as needed."""
        to = next(attribute.i for attribute in node.attribute if attribute.name == "to")
        source, target = node.input[0], node.output[0]
        if to not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            self._nodes.append(node)
        else:
            self._nodes.append(helper.make_node("Identity", [source], [target], name=node.name))
            self._is_half[target] = self._is_half[source]

    def _as(self, name: str, half: bool) -> str:
        if self._is_half[name] == half:
            return name
        key = (name, half)
        if key not in self._casts:
            self._casts[key] = self._converted_constant(name, half) or self._cast(name, half)
        return self._casts[key]

    def _converted_constant(self, name: str, half: bool) -> str | None:
        constant = self._constants.get(name)
        if constant is None:
            return None
        values = np.clip(numpy_helper.to_array(constant), -_LARGEST_HALF, _LARGEST_HALF)
        converted = f"{name}.{'half' if half else 'float'}"
        dtype = np.float16 if half else np.float32
        self._model.graph.initializer.append(numpy_helper.from_array(values.astype(dtype), converted))
        return converted

    def _cast(self, name: str, half: bool) -> str:
        converted = f"{name}.{'half' if half else 'float'}"
        to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self._nodes.append(helper.make_node("Cast", [name], [converted], name=f"{converted}.cast", to=to))
        return converted

    def _restore_outputs(self) -> None:
        """Outputs keep their names and types: their producers are renamed and a cast put behind."""
        for value in self._model.graph.output:
            wanted = value.type.tensor_type.elem_type
            inner = f"{value.name}.inner"
            for node in self._nodes:
                node.input[:] = [inner if name == value.name else name for name in node.input]
                node.output[:] = [inner if name == value.name else name for name in node.output]
            self._nodes.append(
                helper.make_node("Cast", [inner], [value.name], name=f"{value.name}.out", to=wanted)
            )

    def _drop_unused_constants(self) -> None:
        graph = self._model.graph
        used = {name for node in graph.node for name in node.input}
        kept = [constant for constant in graph.initializer if constant.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
