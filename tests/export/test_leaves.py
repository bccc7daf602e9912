"""Networks beside a network: its float32, its INT8 and its scout."""

from __future__ import annotations

from pathlib import Path

import pytest

from spine_export.errors import ExportError
from spine_export.leaves import is_leaf
from spine_export.networks import export_nnunet
from spine_server.modes import Leaves
from spinecore.network_spec import NetworkSpec


@pytest.fixture(scope="module")
def repository(plain_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaves") / "repository"
    export_nnunet(plain_results, repository=folder)
    return folder


def test_an_exact_leaf_stands_beside_the_network_without_stages(
    repository: Path, plain_results: Path
) -> None:
    before = {path.name for path in repository.iterdir()}
    done = export_nnunet(plain_results, repository=repository, precision="fp32", leaf="exact")
    assert {path.name for path in repository.iterdir()} - before == {"nnunet_exact"}
    assert done.entries == () and is_leaf("nnunet_exact", repository) and not is_leaf("nnunet", repository)
    spec = NetworkSpec.load(repository / "nnunet" / "1" / "network.json")
    name, leaf = Leaves("nnunet", spec, (repository,)).answering("exact")
    assert (name, leaf.precision, leaf.name) == ("nnunet_exact", "fp32", "nnunet_exact")


def test_a_leaf_needs_the_network_it_stands_beside(plain_results: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="holds no network"):
        export_nnunet(plain_results, repository=tmp_path / "new", precision="fp32", leaf="exact")


def test_an_exact_leaf_is_float32(repository: Path, plain_results: Path) -> None:
    with pytest.raises(ExportError, match="--precision fp32"):
        export_nnunet(plain_results, repository=repository, leaf="exact")


def test_another_network_is_no_leaf(repository: Path, odd_results: Path) -> None:
    with pytest.raises(ExportError, match="differ"):
        export_nnunet(odd_results, repository=repository, precision="fp32", leaf="exact")
