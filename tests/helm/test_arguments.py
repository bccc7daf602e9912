"""Triton's arguments of every preset start the embedded server, on a repository of one small stage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from chart_support import PRESETS, Chart
from local_pod import GPU_ONLY, LocalPod

from spine_server.repository import default_repository

STAGE = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        shape = pb_utils.get_input_tensor_by_name(request, "SHAPE").as_numpy()
        labels = pb_utils.Tensor("LABELS", np.zeros(shape[1:], np.uint8))
        return pb_utils.InferenceResponse([labels, pb_utils.Tensor("REPORT", np.array([b"{}"], object))])
"""
SHAPES: dict[str, tuple[str | None, dict[str, Any]]] = {
    **{preset: (preset, {}) for preset in PRESETS if preset != "cpu"},  # that one: test_live.py
    "direct, traced, all logs": (
        None,
        {
            "gate": {"enabled": False},
            "triton": {
                "logLevel": "verbose",
                "tracing": {"enabled": True},
                "extraArgs": ["--strict-readiness=true"],
            },
        },
    ),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`spine_mri`, with its real tensors, of one stage that answers empty label maps."""
    folder = tmp_path_factory.mktemp("repository")
    entry = (default_repository() / "spine_mri" / "config.pbtxt").read_text()
    tensors = entry[entry.index("input [") : entry.index("ensemble_scheduling")]
    names = re.findall(r'name: "(\w+)"', tensors)
    inputs, outputs = names[:-2], names[-2:]
    maps = [f'input_map {{ key: "{name}" value: "{name}" }}' for name in inputs]
    maps += [f'output_map {{ key: "{name}" value: "{name}" }}' for name in outputs]
    step = f'ensemble_scheduling {{ step [ {{ model_name: "stage" model_version: -1 {" ".join(maps)} }} ] }}'
    for name in ("spine_mri", "stage"):
        (folder / name / "1").mkdir(parents=True)
    (folder / "stage" / "1" / "model.py").write_text(STAGE)
    (folder / "stage" / "config.pbtxt").write_text('backend: "python"\nmax_batch_size: 0\n' + tensors)
    (folder / "spine_mri" / "config.pbtxt").write_text(
        'platform: "ensemble"\nmax_batch_size: 0\n' + tensors + step
    )
    return folder


@pytest.mark.parametrize("shape", SHAPES)
def test_the_arguments_start_triton_and_the_startup_probe_passes(
    chart: Chart, tmp_path: Path, repository: Path, shape: str
) -> None:
    preset, values = SHAPES[shape]
    pod = LocalPod(chart, tmp_path, preset=preset, values=values, repository=repository)
    try:
        pod.start_triton()
        for name in ("readinessProbe", "livenessProbe"):
            assert pod.probe(name) == 200
    finally:
        assert pod.stop() == 0


def test_what_is_left_out_is_of_the_gpu_alone(pod_of: Any) -> None:
    """A flag that is left out on this machine is one that the CPU preset does not have."""
    args = pod_of("cpu")["initContainers"][-1]["args"]
    assert not [word for word in args if word.partition("=")[0] in GPU_ONLY]
    args = pod_of("production")["initContainers"][-1]["args"]
    assert set(GPU_ONLY) < {word.partition("=")[0] for word in args}
