"""Runs an exported network as the server would: OpenVINO by the server's own engine, or ONNX Runtime."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spine_export.errors import ExportError
from spine_server.repository import Model, read_model
from spinecore.errors import ModelError

INPUT, OUTPUT = "PATCH", "LOGITS"


@dataclass(frozen=True)
class RunningNetwork:
    """A loaded network: patches (B, C, *patch) float32 -> logits (B, K, *patch), and what runs it."""

    run: Callable[[NDArray[np.float32]], NDArray[Any]]
    description: str


def load_network(model_folder: Path) -> RunningNetwork:
    """The network of a model folder by its CPU profile, or by ONNX Runtime for target ``onnx``."""
    model = read_model(model_folder, "cpu")
    if model.file is None or not model.file.is_file():
        raise ModelError(f"Model {model.name} has no network file.")
    if model.kind == "openvino":
        return _openvino(model, model.file)
    if model.kind == "onnxruntime":
        return _onnxruntime(model.file)
    raise ExportError(f"Model {model.name} runs on {model.kind}, which cannot be run here.")


def _openvino(model: Model, file: Path) -> RunningNetwork:
    from spine_server.openvino_engine import EngineOptions, OpenVinoEngine

    parameters = {key: value.string_value for key, value in model.config.parameters.items()}
    options = EngineOptions.from_parameters(parameters)
    engine = OpenVinoEngine(file, replace(options, threads=options.threads or _cores()))

    def run(patches: NDArray[np.float32]) -> NDArray[Any]:
        return np.array(engine.infer({INPUT: patches})[OUTPUT])

    chosen = re.search(r"inference_precision_hint=<Type: '(\w+)'>", engine.description())
    return RunningNetwork(run, f"OpenVINO {chosen.group(1) if chosen else ''}".rstrip())


def _onnxruntime(file: Path) -> RunningNetwork:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(patches: NDArray[np.float32]) -> NDArray[Any]:
        return np.asarray(session.run([OUTPUT], {INPUT: patches})[0])

    return RunningNetwork(run, "ONNX Runtime")


def _cores() -> int:
    return len(os.sched_getaffinity(0))
