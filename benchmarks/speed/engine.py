"""A network's engine alone, in this process: seconds per patch that no server around it can undercut."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import numpy as np
from tritonclient.grpc import model_config_pb2

from google.protobuf import text_format  # isort: skip

from spine_server.openvino_engine import EngineOptions, OpenVinoEngine

_ROUNDS = 5


def engine_seconds(repository: Path, model: str, *, threads: int) -> float:
    """Median seconds of one patch on `model` of `repository`, as its CPU profile configures it."""
    config = text_format.Parse(
        (repository / model / "configs" / "cpu.pbtxt").read_text(), model_config_pb2.ModelConfig()
    )
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    options = EngineOptions.from_parameters({**parameters, "INFERENCE_NUM_THREADS": str(threads)})
    engine = OpenVinoEngine(repository / model / "1" / config.default_model_filename, options)
    patch = np.random.default_rng(0).standard_normal((1, *config.input[0].dims), np.float32)
    given = {config.input[0].name: patch}
    engine.infer(given)
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        engine.infer(given)
        seconds.append(time.perf_counter() - began)
    return median(seconds)
