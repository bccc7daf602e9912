"""Triton's arguments of every preset start the embedded server, on a repository of one small stage."""

from __future__ import annotations

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
    "explicit": (None, {"triton": {"modelControl": "explicit"}}),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`spine_mri` alone, with its real tensors, answering empty label maps."""
    folder = tmp_path_factory.mktemp("repository")
    entry = (default_repository() / "spine_mri" / "config.pbtxt").read_text()
    tensors = entry[entry.index("input [") : entry.index("ensemble_scheduling")]
    (folder / "spine_mri" / "1").mkdir(parents=True)
    (folder / "spine_mri" / "1" / "model.py").write_text(STAGE)
    (folder / "spine_mri" / "config.pbtxt").write_text('backend: "python"\nmax_batch_size: 0\n' + tensors)
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
            assert pod.probe(name).returncode == 0
    finally:
        assert pod.stop() == 0


def test_what_is_left_out_is_of_the_gpu_alone(chart: Chart, pod_of: Any) -> None:
    """A flag that is left out on this machine is one that the CPU preset turns off or lacks."""
    args = pod_of("cpu")["initContainers"][-1]["args"]
    assert not [word for word in args if word.startswith("--cuda-memory-pool-byte-size")]
    for flag in GPU_ONLY[1:]:
        assert f"{flag}=0" in args or f"{flag}=false" in args
