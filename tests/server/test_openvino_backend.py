"""The Python-based `openvino` backend inside the real Triton, on networks small enough to know the answer."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from spine_server import EmbeddedTriton, ServerOptions, StartError

CONFIG = """
backend: "openvino"
default_model_filename: "model.onnx"
max_batch_size: {max_batch_size}
input [ {{ name: "{input}" data_type: TYPE_FP32 dims: [ {dims} ] }} ]
output [ {{ name: "OUT" data_type: TYPE_FP16 dims: [ {dims} ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
parameters {{ key: "INFERENCE_PRECISION_HINT" value {{ string_value: "f32" }} }}
{more}
"""


def doubling_network(shape: list[Any]) -> bytes:
    """OUT = float16(2 · IN), as ONNX."""
    two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
    nodes = [
        helper.make_node("Mul", ["IN", "two"], ["twice"]),
        helper.make_node("Cast", ["twice"], ["OUT"], to=TensorProto.FLOAT16),
    ]
    inputs = [helper.make_tensor_value_info("IN", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("OUT", TensorProto.FLOAT16, shape)]
    graph = helper.make_graph(nodes, "doubling", inputs, outputs, [two])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def add_network(
    repository: Path, name: str, *, max_batch_size: int, more: str = "", input_name: str = "IN"
) -> None:
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    shape: list[Any] = ["N", 3] if max_batch_size else [3]
    (folder / "1" / "model.onnx").write_bytes(doubling_network(shape))
    text = CONFIG.format(max_batch_size=max_batch_size, input=input_name, dims="3", more=more)
    (folder / "config.pbtxt").write_text(text)


def ask(client: triton.InferenceServerClient, name: str, rows: np.ndarray) -> np.ndarray:
    tensor = triton.InferInput("IN", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return client.infer(name, [tensor]).as_numpy("OUT")


def counted(client: triton.InferenceServerClient, name: str, rows: int) -> dict[str, Any]:
    """A model's statistics, once all `rows` are in them, or five seconds on: it counts after it answers."""
    deadline = time.monotonic() + 5
    while True:
        found: dict[str, Any] = client.get_inference_statistics(name, as_json=True)["model_stats"][0]
        if int(found["inference_count"]) >= rows or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_batches_are_joined_and_every_request_gets_its_own_rows(tiny_repository: Path) -> None:
    delay = "dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 200000 }"
    add_network(tiny_repository, "doubling", max_batch_size=8, more=delay)
    requests = [np.full((1 + number % 3, 3), number, np.float32) for number in range(12)]
    with (
        EmbeddedTriton(ServerOptions(repository=tiny_repository)) as server,
        triton.InferenceServerClient(server.grpc_url) as client,
        ThreadPoolExecutor(len(requests)) as pool,
    ):
        answers = list(pool.map(lambda rows: ask(client, "doubling", rows), requests))
        statistics = counted(client, "doubling", sum(map(len, requests)))
    for rows, answer in zip(requests, answers, strict=True):
        assert answer.dtype == np.float16
        np.testing.assert_array_equal(answer, 2 * rows)
    assert int(statistics["inference_count"]) == sum(map(len, requests))
    assert int(statistics["execution_count"]) < len(requests)


def test_a_network_without_batching_answers_one_request_at_a_time(tiny_repository: Path) -> None:
    add_network(tiny_repository, "single", max_batch_size=0)
    with (
        EmbeddedTriton(ServerOptions(repository=tiny_repository)) as server,
        triton.InferenceServerClient(server.grpc_url) as client,
    ):
        np.testing.assert_array_equal(ask(client, "single", np.array([1, 2, 3], np.float32)), [2, 4, 6])


def test_hostile_shapes_are_refused_and_the_next_request_is_answered(tiny_repository: Path) -> None:
    add_network(tiny_repository, "doubling", max_batch_size=8)
    with (
        EmbeddedTriton(ServerOptions(repository=tiny_repository)) as server,
        triton.InferenceServerClient(server.grpc_url) as client,
    ):
        for shape in ([9, 3], [2**45, 3], [2**62, 3], [1, 4], [0, 3], [3]):
            tensor = triton.InferInput("IN", shape, "FP32")
            tensor._raw_content = b""
            with pytest.raises(InferenceServerException) as refused:
                client.infer("doubling", [tensor])
            assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
            np.testing.assert_array_equal(ask(client, "doubling", np.ones((1, 3), np.float32)), [[2, 2, 2]])


def test_a_config_that_names_other_tensors_than_the_network_is_refused_at_start(
    tiny_repository: Path,
) -> None:
    add_network(tiny_repository, "doubling", max_batch_size=8, input_name="OTHER")
    with pytest.raises(StartError, match=r"takes \['IN'\] and gives \['OUT'\]"):
        EmbeddedTriton(ServerOptions(repository=tiny_repository)).start()


def test_a_damaged_network_is_refused_at_start(tiny_repository: Path) -> None:
    add_network(tiny_repository, "doubling", max_batch_size=8)
    (tiny_repository / "doubling" / "1" / "model.onnx").write_bytes(b"not a network")
    with pytest.raises(StartError, match=r"OpenVINO cannot compile model.onnx"):
        EmbeddedTriton(ServerOptions(repository=tiny_repository)).start()
