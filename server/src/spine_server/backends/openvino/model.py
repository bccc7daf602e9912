"""Triton backend `openvino`, written in Python: serves models that consist of a config.pbtxt and a network
file.

Batches: the requests that Triton hands over together (dynamic batching) run as one batch, and each gets its
rows. The arithmetic is in `spine_server.openvino_engine`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from spine_server.lifeline import end_with_triton
from spine_server.model_support import Array, StageRequest, error_response, log_request
from spine_server.openvino_engine import EngineOptions, OpenVinoEngine
from spine_server.tracing import Tracer
from spinecore.errors import InputError, ModelError

DEFAULT_FILE = "model.onnx"


class TritonPythonModel:
    """One instance of a network: Triton's entry points."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Compile the network that lies in the version's folder, and hold it to its config."""
        end_with_triton()
        config = json.loads(args["model_config"])
        self._name = args["model_name"]
        self._max_batch_size = int(config["max_batch_size"])
        self._shapes = {each["name"]: tuple(int(size) for size in each["dims"]) for each in config["input"]}
        self._types = {
            each["name"]: pb_utils.triton_string_to_numpy(each["data_type"]) for each in config["output"]
        }
        file = config.get("default_model_filename") or DEFAULT_FILE
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        path = Path(args["model_repository"]) / args["model_version"] / file
        self._engine = OpenVinoEngine(path, EngineOptions.from_parameters(parameters))
        self._check_names()
        self._tracer = Tracer(self._name)
        pb_utils.Logger.log_info(f"network={self._name} openvino {self._engine.description()}")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run all requests that are still wanted and well formed as one batch."""
        answers: dict[int, Any] = {}
        batch: dict[int, dict[str, Array]] = {}
        opened = [StageRequest(request) for request in requests]
        for index, request in enumerate(opened):
            try:
                request.raise_if_cancelled()
                batch[index] = self._read(request)
            except Exception as error:
                answers[index], _ = error_response(error, stage=self._name, request_id=request.id)
        # A model without batching in its config takes one request at a time, whatever comes together.
        together = (
            [batch] if self._max_batch_size > 0 else [{index: arrays} for index, arrays in batch.items()]
        )
        for group in together:
            answers.update(self._traced(group, opened))
        return [answers[index] for index in range(len(opened))]

    def _check_names(self) -> None:
        if self._engine.input_names != set(self._shapes) or not set(self._types) <= set(
            self._engine.output_names
        ):
            raise ModelError(
                f"The network of {self._name} takes {sorted(self._engine.input_names)} and gives "
                f"{sorted(self._engine.output_names)}; its config.pbtxt says otherwise."
            )

    def _read(self, request: StageRequest) -> dict[str, Array]:
        arrays = {name: request.tensor(name) for name in self._shapes}
        for name, array in arrays.items():
            shape = array.shape if self._max_batch_size == 0 else array.shape[1:]
            if shape != self._shapes[name] or array.size == 0:
                raise InputError(
                    "shape", f"{name} must have shape {self._shapes[name]} for each of 1 or more rows."
                )
        return arrays

    def _traced(
        self, batch: Mapping[int, Mapping[str, Array]], opened: Sequence[StageRequest]
    ) -> dict[int, Any]:
        """Run a batch inside a span for each of its requests."""
        with ExitStack() as spans:
            for index in batch:
                request = opened[index]
                spans.enter_context(self._tracer.span(request.id, request.traceparent))
            return self._run(batch, opened)

    def _run(
        self, batch: Mapping[int, Mapping[str, Array]], opened: Sequence[StageRequest]
    ) -> dict[int, Any]:
        if not batch:
            return {}
        started = time.monotonic()
        try:
            outputs = self._engine.infer(
                {name: _joined([arrays[name] for arrays in batch.values()]) for name in self._shapes}
            )
            answers = self._split(outputs, batch)
        except Exception as error:
            return {
                index: error_response(error, stage=self._name, request_id=opened[index].id)[0]
                for index in batch
            }
        for index in batch:
            log_request(self._name, opened[index].id, f"batch_of_{len(batch)}", time.monotonic() - started)
        return answers

    def _split(
        self, outputs: Mapping[str, Array], batch: Mapping[int, Mapping[str, Array]]
    ) -> dict[int, Any]:
        answers, first = {}, 0
        for index, arrays in batch.items():
            rows = len(next(iter(arrays.values())))
            tensors = [
                pb_utils.Tensor(name, np.ascontiguousarray(outputs[name][first : first + rows], dtype))
                for name, dtype in self._types.items()
            ]
            answers[index] = pb_utils.InferenceResponse(tensors)
            first += rows
        return answers


def _joined(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
