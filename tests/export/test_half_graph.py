"""The float16 graph for TensorRT: half arithmetic, normalisation in float32, the same answer as torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from spine_export.engine_cache import prepared_graph
from spine_export.half_graph import KEPT_IN_FLOAT, to_half
from spine_export.nnunet_folder import read_results_folder
from spine_export.onnx_file import HalfOutput, round_weights, to_onnx
from spine_export.parity.results import Kind, write_results

SHAPE = (1, 16, 16, 16)


@pytest.fixture(scope="module", params=["half weights", "float weights"])
def model(request: pytest.FixtureRequest, fitted_results: Path) -> onnx.ModelProto:
    """A network's ONNX file as fp16 and as fp32 exports write it."""
    network = read_results_folder(fitted_results).network
    half = request.param == "half weights"
    written = HalfOutput(round_weights(network)) if half else network
    content = to_onnx(
        written, input_shape=SHAPE, input_name="PATCH", output_names=["LOGITS"], half_weights=half
    )
    return onnx.load_from_string(content)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Value name -> element type, by ONNX's own inference."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {constant.name: constant.data_type for constant in inferred.initializer}


def test_convolutions_run_in_half_and_normalisations_in_float(model: onnx.ModelProto) -> None:
    half = to_half(model)
    types = types_of(half)
    seen = set()
    for node in half.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "LeakyRelu", "Concat", *KEPT_IN_FLOAT):
            expected = TensorProto.FLOAT if node.op_type in KEPT_IN_FLOAT else TensorProto.FLOAT16
            assert {types[name] for name in (*node.input, *node.output)} == {expected}, node.name
            seen.add(node.op_type)
    assert {"Conv", "InstanceNormalization"} <= seen


def test_inputs_and_outputs_keep_names_and_types(model: onnx.ModelProto) -> None:
    half = to_half(model)
    assert list(half.graph.input) == list(model.graph.input)
    assert list(half.graph.output) == list(model.graph.output)


def test_the_half_graph_answers_as_torch(model: onnx.ModelProto, fitted_results: Path) -> None:
    content = prepared_graph(model, "fp16")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    patches = np.random.default_rng(0).standard_normal((2, *SHAPE), dtype=np.float32)
    (logits,) = session.run(["LOGITS"], {"PATCH": patches})
    with torch.inference_mode():
        expected = read_results_folder(fitted_results).network(torch.from_numpy(patches)).numpy()
    assert np.abs(logits.astype(np.float32) - expected).mean() < 0.01 * expected.std()
    assert np.mean(logits.argmax(1) == expected.argmax(1)) > 0.995


@pytest.mark.parametrize("kind", ["residual encoder", "several folds and channels"])
def test_other_networks_half_graphs_answer_as_torch(kind: str, odd_results: Path, tmp_path: Path) -> None:
    results = odd_results
    if kind == "residual encoder":
        results = write_results(tmp_path / "results", Kind(patch=(8, 16, 12), residual=True))
    trained = read_results_folder(results)
    shape = (len(trained.spec.channels), *trained.spec.patch_size)
    content = to_onnx(trained.network, input_shape=shape, input_name="PATCH", output_names=["LOGITS"])
    half = prepared_graph(onnx.load_from_string(content), "fp16")
    session = onnxruntime.InferenceSession(half, providers=["CPUExecutionProvider"])
    patches = np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32)
    (logits,) = session.run(["LOGITS"], {"PATCH": patches})
    with torch.inference_mode():
        expected = trained.network(torch.from_numpy(patches)).numpy()
    assert np.abs(logits - expected).mean() < 0.01 * expected.std()


def test_normalisation_survives_values_that_overflow_half() -> None:
    """What half arithmetic alone cannot do: the squares of a few hundred exceed float16's largest."""
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.InstanceNorm3d(4, affine=True)
    )
    network[0].weight.data *= 3000.0
    content = to_onnx(network.eval(), input_shape=(1, 8, 8, 8), input_name="PATCH", output_names=["LOGITS"])
    half = prepared_graph(onnx.load_from_string(content), "fp16")
    session = onnxruntime.InferenceSession(half, providers=["CPUExecutionProvider"])
    patch = np.random.default_rng(0).standard_normal((1, 1, 8, 8, 8), dtype=np.float32)
    (answer,) = session.run(None, {"PATCH": patch})
    with torch.inference_mode():
        expected = network(torch.from_numpy(patch)).numpy()
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(answer, expected, atol=0.02)


def test_fp32_engines_get_the_graph_as_it_is(model: onnx.ModelProto) -> None:
    assert onnx.load_from_string(prepared_graph(model, "fp32")) == model
