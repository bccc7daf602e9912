"""Instance normalisation in float32, held to double precision, which OpenVINO's own kernel does not reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper
from openvino import opset13 as ops

from spine_server.openvino_engine import EngineOptions, OpenVinoEngine
from spine_server.precise_norm import make_norms_precise

F32 = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
MAPS, EPS = 16, 1e-5


def convolved_and_normalised(shape: tuple[int, ...], weights: np.ndarray) -> bytes:
    """Convolution by `weights` and InstanceNormalization with scale 2 and bias 1, as ONNX."""
    tensors = [
        helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.reshape(-1)),
        helper.make_tensor("scale", TensorProto.FLOAT, [MAPS], [2.0] * MAPS),
        helper.make_tensor("bias", TensorProto.FLOAT, [MAPS], [1.0] * MAPS),
    ]
    nodes = [
        helper.make_node("Conv", ["IN", "weights"], ["maps"], pads=[1] * 2 * (len(shape) - 2)),
        helper.make_node("InstanceNormalization", ["maps", "scale", "bias"], ["OUT"], epsilon=EPS),
    ]
    answer = [shape[0], MAPS, *shape[2:]]
    inputs = [helper.make_tensor_value_info("IN", TensorProto.FLOAT, ["N", *shape[1:]])]
    outputs = [helper.make_tensor_value_info("OUT", TensorProto.FLOAT, ["N", *answer[1:]])]
    graph = helper.make_graph(nodes, "norm", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def expected(maps: np.ndarray) -> np.ndarray:
    axes = tuple(range(2, maps.ndim))
    away = maps.astype(np.float64) - maps.mean(axes, dtype=np.float64, keepdims=True)
    return 2.0 * away / np.sqrt((away**2).mean(axes, keepdims=True) + EPS) + 1.0


@pytest.mark.parametrize("shape", [(2, 1, 48, 64, 64), (1, 1, 17, 22, 13), (1, 1, 160, 96)])
def test_exact_normalises_as_double_precision_does(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    weights = np.zeros((MAPS, 1, *[3] * (len(shape) - 2)), np.float32)
    weights[(slice(None), 0, *[1] * (len(shape) - 2))] = np.arange(1, MAPS + 1)  # no neighbour counts: maps
    volume = rng.gamma(0.5, 1.0, shape).astype(np.float32)  # are multiples, told without a convolution
    (tmp_path / "model.onnx").write_bytes(convolved_and_normalised(shape, weights))
    engine = OpenVinoEngine(tmp_path / "model.onnx", EngineOptions.from_parameters(F32))
    answer = engine.infer({"IN": volume})["OUT"]
    maps = volume * np.arange(1, MAPS + 1, dtype=np.float32).reshape(1, -1, *[1] * (len(shape) - 2))
    np.testing.assert_allclose(answer, expected(maps), rtol=2e-6, atol=1e-5)
    slope = np.mean((answer - 1) * (expected(maps) - 1)) / np.mean((expected(maps) - 1) ** 2)
    assert abs(slope - 1) < 1e-6


def test_a_normalisation_over_other_axes_is_left_alone() -> None:
    given = ops.parameter((1, 4, 8, 8), np.float32)
    norm = ops.mvn(given, np.array([1, 2, 3], np.int64), True, EPS, "INSIDE_SQRT")
    model = openvino.Model([norm], [given])
    assert make_norms_precise(model) == 0
    assert "MVN" in [node.get_type_name() for node in model.get_ordered_ops()]
