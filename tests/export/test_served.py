"""From a results folder by the real server to a label map: what the file proves, the service answers too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc as triton
from tritonclient.utils import np_to_triton_dtype

from spine_export.engines import load_network
from spine_export.gate import nnunet_answer, served_answer
from spine_export.images import synthetic_image
from spine_export.networks import export_nnunet
from spine_export.nnunet_folder import read_results_folder
from spine_server import EmbeddedTriton, ServerOptions
from spinecore import contract
from spinecore.network_spec import NetworkSpec

pytestmark = pytest.mark.slow

LEAST_EQUAL = {"nnunet": 0.9999, "odd": 0.999}
"""Of float32 exports: a fitted network, and random weights, whose logits are full of near-ties."""


@pytest.fixture(scope="module")
def repository(odd_results: Path, fitted_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks that are no spine's, side by side."""
    path = tmp_path_factory.mktemp("served") / "repository"
    export_nnunet(odd_results, repository=path, model="odd", precision="fp32", mirror=True)
    export_nnunet(fitted_results, repository=path, precision="fp32")
    return path


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[EmbeddedTriton]:
    """The real Triton on it."""
    with EmbeddedTriton(ServerOptions(repository=repository)) as running:
        yield running


@pytest.mark.parametrize("name", ["nnunet", "odd"])
def test_the_entry_segmentation_answers_what_nnunetpredictor_does(
    name: str, server: EmbeddedTriton, repository: Path, odd_results: Path, fitted_results: Path
) -> None:
    spec = NetworkSpec.load(repository / name / "1" / "network.json")
    image = synthetic_image(spec)
    inputs = []
    for tensor, array in contract.encode_volume(image.volume).items():
        inputs.append(triton.InferInput(tensor, array.shape, np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    entry = "segmentation" if name == "nnunet" else f"segmentation_{name}"
    with triton.InferenceServerClient(server.grpc_url) as client:
        labels = client.infer(entry, inputs, client_timeout=60.0).as_numpy("LABELS")
    expected = served_answer(image, spec, load_network(repository / name)).labels
    np.testing.assert_array_equal(labels, expected)
    results = odd_results if name == "odd" else fitted_results
    theirs = nnunet_answer(image, replace(read_results_folder(results), spec=spec)).labels
    assert np.mean(labels == theirs) >= LEAST_EQUAL[name]
    assert len(np.unique(labels)) > 1
