"""Which networks answer in which mode, and what ``--exact`` lays beside a repository."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from spine_server.errors import PreconditionError
from spine_server.exact_leaf import lay_out_exact
from spine_server.modes import Leaves
from spine_server.repository import default_repository, read_model
from spinecore.errors import InputError, ModelError
from spinecore.network_spec import NetworkSpec

OWN = default_repository()
SPEC = NetworkSpec.load(OWN / "nnunet" / "1" / "network.json")


def put(folder: Path, name: str, spec: NetworkSpec) -> None:
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "1" / "network.json").write_text(spec.to_json())


def test_without_leaves_the_network_answers_default_and_fast_and_exact_is_refused(tmp_path: Path) -> None:
    leaves = Leaves("nnunet", SPEC, (tmp_path,))
    assert leaves.answering("default") == leaves.answering("fast") == ("nnunet", SPEC)
    assert leaves.scout is None
    with pytest.raises(InputError, match="--exact") as refused:
        leaves.answering("exact")
    assert refused.value.code == "mode_unavailable"


def test_a_network_in_float32_answers_exact_itself(tmp_path: Path) -> None:
    spec = replace(SPEC, precision="fp32")
    assert Leaves("nnunet", spec, (tmp_path,)).answering("exact") == ("nnunet", spec)


def test_leaves_are_found_in_any_of_the_repositories(tmp_path: Path) -> None:
    exact, fast = replace(SPEC, precision="fp32"), replace(SPEC, precision="int8")
    put(tmp_path / "a", "nnunet_fast", fast)
    put(tmp_path / "b", "nnunet_exact", exact)
    put(tmp_path / "a", "nnunet_scout", replace(SPEC, spacing_mm=(4.0, 4.0, 4.0)))
    leaves = Leaves("nnunet", SPEC, (tmp_path / "a", tmp_path / "b"))
    assert leaves.answering("exact") == ("nnunet_exact", exact)
    assert leaves.answering("fast") == ("nnunet_fast", fast)
    assert leaves.answering("default") == ("nnunet", SPEC)
    assert leaves.scout is not None and leaves.scout_name == "nnunet_scout"


def test_a_leaf_of_another_grid_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "nnunet_fast", replace(SPEC, patch_size=(64, 64, 64)))
    with pytest.raises(ModelError, match="patch_size"):
        Leaves("nnunet", SPEC, (tmp_path,))


def test_the_exact_leaf_is_the_same_file_held_to_float32(tmp_path: Path) -> None:
    overlay = lay_out_exact(tmp_path, OWN, "cpu")
    assert overlay is not None and [folder.name for folder in overlay.iterdir()] == ["nnunet_exact"]
    leaf, network = read_model(overlay / "nnunet_exact", "cpu"), read_model(OWN / "nnunet", "cpu")
    assert leaf.config.parameters["INFERENCE_PRECISION_HINT"].string_value == "f32"
    assert leaf.config.input == network.config.input and leaf.config.output == network.config.output
    assert leaf.file is not None and network.file is not None and leaf.file.samefile(network.file)


def test_nothing_is_laid_out_where_an_exact_leaf_is_there(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(OWN / "nnunet", repository / "nnunet")
    shutil.copytree(OWN / "nnunet", repository / "nnunet_exact")
    assert lay_out_exact(tmp_path, repository, "cpu") is None


def test_on_the_gpu_float32_takes_an_engine_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match="nnunet_exact"):
        lay_out_exact(tmp_path, OWN, "gpu")
