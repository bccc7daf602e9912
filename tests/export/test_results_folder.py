"""What is read from a results folder, and what is refused, each in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spine_export.checkpoints import find_folds, read_checkpoint
from spine_export.errors import ExportError, Unsupported
from spine_export.files import sha256
from spine_export.nnunet_folder import read_results_folder
from spine_export.parity.cases import CASES
from spine_export.parity.results import CONFIGURATION, dataset_of, plans_of
from spine_export.roles import recognised_roles, roles_from_table
from spinecore.errors import ModelError, SpineError
from spinecore.network_spec import NetworkSpec

Copy = Callable[[Path], Path]


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def configuration(plans: dict[str, Any]) -> dict[str, Any]:
    chosen: dict[str, Any] = plans["configurations"][CONFIGURATION]
    return chosen


def test_the_description_says_all_of_plans_dataset_and_checkpoints(odd_results: Path) -> None:
    spec = read_results_folder(odd_results, name="brain", version="7", trained_on="MR", mirror=True).spec
    assert (spec.name, spec.version, spec.trained_on) == ("brain", "7", "MR")
    assert (spec.reader, spec.transpose_forward, spec.transpose_backward) == ("as_is", (2, 0, 1), (1, 2, 0))
    assert (spec.spacing_mm, spec.patch_size) == ((4.0, 1.2, 1.2), (8, 16, 12))
    assert [c.normalization for c in spec.channels] == ["ZScoreNormalization", "CTNormalization"]
    assert [c.use_mask for c in spec.channels] == [True, False]
    assert spec.channels[1].intensity["percentile_99_5"] == 600.0
    assert spec.labels == {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "fluid": 3}
    assert (spec.regions_class_order, spec.num_outputs) == ((1, 2, 3), 3)
    assert (spec.mirror_axes, spec.mirroring) == ((0, 2), True)
    assert (spec.resampling_data.order, spec.resampling_logits.order) == (3, 1)
    assert spec.roles == {}
    assert set(spec.sources) == {
        "plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth",
    }  # fmt: skip
    assert spec.sources["plans.json"] == sha256(odd_results / "plans.json")
    assert NetworkSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_plans_is_described(name: str) -> None:
    from spine_export.describe import describe

    kind = CASES[name].kind
    spec = describe(plans_of(kind), dataset_of(kind), kind.configuration, name="n")
    assert spec.reader == ("reorient_ras" if "Reorient" in kind.reader else "as_is")
    assert spec.resampling_data.kind == ("torch" if kind.torch_resampling else "default")
    assert spec.ignore_label == kind.labels.get("ignore")
    assert spec.has_regions == (kind.regions_class_order is not None)


def test_several_folds_are_averaged(odd_results: Path) -> None:
    patch = torch.randn(1, 2, 8, 16, 12, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        both = read_results_folder(odd_results).network(patch)
        each = [read_results_folder(odd_results, folds=n).network(patch) for n in ("0", "1")]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)
    assert not torch.equal(each[0], each[1])


def test_folds_are_found_as_nnunet_finds_them(tmp_path: Path) -> None:
    for name in ("fold_0", "fold_10", "fold_2", "fold_all"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoint_final.pth").touch()
    assert [p.parent.name for p in find_folds(tmp_path)] == ["fold_0", "fold_2", "fold_10"]
    assert [p.parent.name for p in find_folds(tmp_path, "10, 0")] == ["fold_10", "fold_0"]
    assert [p.parent.name for p in find_folds(tmp_path, "fold_all")] == ["fold_all"]
    with pytest.raises(ModelError, match=r"fold_1/checkpoint_final\.pth is missing.*fold_0"):
        find_folds(tmp_path, "1")
    for wrong in ("0,0", "x", "", "../0"):
        with pytest.raises(ExportError, match="--folds"):
            find_folds(tmp_path, wrong)


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "2-D": (lambda p: configuration(p).update(patch_size=[16, 16]), "is 2-D"),
    "cascade": (lambda p: configuration(p).update(previous_stage="3d_lowres"), "cascades are not served"),
    "preprocessor": (lambda p: configuration(p).update(preprocessor_name="Mine"), "preprocessor 'Mine'"),
    "resampling": (lambda p: configuration(p).update(resampling_fn_data="mine"), "custom function 'mine'"),
    "resampling arguments": (
        lambda p: configuration(p)["resampling_fn_data_kwargs"].update(power=2),
        "arguments that are not served: power",
    ),
    "normalisation": (
        lambda p: configuration(p).update(normalization_schemes=["Mine"]),
        "normalise with Mine",
    ),
    "reader": (lambda p: p.update(image_reader_writer="NaturalImage2DIO"), "image reader 'NaturalImage2DIO'"),
    "label manager": (lambda p: p.update(label_manager="Mine"), "label manager 'Mine'"),
    "architecture": (
        lambda p: configuration(p)["architecture"].update(network_class_name="no.such.Network"),
        "architecture 'no.such.Network' of the plans is unknown",
    ),
    "no architecture": (
        lambda p: configuration(p)["architecture"].update(network_class_name=None),
        "architecture None of the plans is unknown",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_supported_is_refused(what: str, plain_results: Path, copy_of: Copy) -> None:
    change, sentence = REFUSED[what]
    folder = copy_of(plain_results)
    edit(folder / "plans.json", change)
    with pytest.raises(Unsupported, match=sentence) as caught:
        read_results_folder(folder)
    assert "\n" not in str(caught.value)


CONTRADICTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "features": (
        "plans.json",
        lambda p: configuration(p)["architecture"]["arch_kwargs"].update(features_per_stage=[4, 16]),
        "weights of fold_0/checkpoint_final.pth do not fit",
    ),
    "arguments": (
        "plans.json",
        lambda p: configuration(p)["architecture"]["arch_kwargs"].pop("strides"),
        "cannot be built from the plans",
    ),
    "configuration": (
        "plans.json",
        lambda p: p.update(configurations={}),
        "lacks the configuration '3d_fullres'",
    ),
    "key": ("plans.json", lambda p: configuration(p).pop("spacing"), "lack 'spacing'"),
    "classes": ("dataset.json", lambda d: d["labels"].update(more=4), "do not fit"),
    "channels": ("dataset.json", lambda d: d["channel_names"].update({"1": "T2"}), "2 channels, 1 normal"),
    "labels": ("dataset.json", lambda d: d.update(labels={"a": 1}), "not nnU-Net v2's"),
    "gaps": ("dataset.json", lambda d: d["labels"].update(fluid=7), "labels must be 0 to 3"),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_contradictory_files_are_refused(what: str, plain_results: Path, copy_of: Copy) -> None:
    file, change, sentence = CONTRADICTIONS[what]
    folder = copy_of(plain_results)
    edit(folder / file, change)
    with pytest.raises(ModelError, match=sentence) as caught:
        read_results_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_damaged_json_is_refused(content: bytes, plain_results: Path, copy_of: Copy) -> None:
    folder = copy_of(plain_results)
    (folder / "plans.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"plans\.json"):
        read_results_folder(folder)


@pytest.mark.parametrize("kept", [0, 100, 2000])
def test_a_truncated_checkpoint_is_refused(kept: int, plain_results: Path, copy_of: Copy) -> None:
    path = copy_of(plain_results) / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"fold_0/checkpoint_final\.pth is damaged"):
        read_checkpoint(path)


USABLE = {"network_weights": {}, "trainer_name": "t", "init_args": {"configuration": "3d_fullres"}}


@pytest.mark.parametrize(
    "state",
    [
        {},
        [1],
        {**USABLE, "network_weights": 1},
        {**USABLE, "init_args": {}},
        {**USABLE, "inference_allowed_mirroring_axes": "ab"},
    ],
)
def test_what_is_no_checkpoint_is_refused(state: Any, tmp_path: Path) -> None:
    (tmp_path / "fold_0").mkdir()
    torch.save(state, tmp_path / "fold_0" / "c.pth")
    with pytest.raises(ModelError, match="is no nnU-Net checkpoint"):
        read_checkpoint(tmp_path / "fold_0" / "c.pth")


def test_weights_of_a_training_that_diverged_are_refused(plain_results: Path, copy_of: Copy) -> None:
    folder = copy_of(plain_results)
    path = folder / "fold_0" / "checkpoint_final.pth"
    state = torch.load(path, weights_only=False)
    next(iter(state["network_weights"].values())).fill_(float("nan"))
    torch.save(state, path)
    with pytest.raises(ModelError, match="NaN or infinite"):
        read_results_folder(folder)


class Surprise:
    """A pickled object that runs code when it is loaded."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.touched,)


def test_a_checkpoint_runs_no_code_unless_it_is_trusted(plain_results: Path, copy_of: Copy) -> None:
    path = copy_of(plain_results) / "fold_0" / "checkpoint_final.pth"
    touched = path.parent / "touched"
    state = torch.load(path, weights_only=False)
    torch.save({**state, "extra": Surprise(touched)}, path)
    with pytest.raises(ExportError, match="--trust-checkpoint"):
        read_checkpoint(path)
    assert not touched.exists()
    assert read_checkpoint(path, trusted=True).trainer == "nnUNetTrainer"
    assert touched.exists()


def test_weights_of_a_compiled_network_are_taken(plain_results: Path, copy_of: Copy) -> None:
    path = copy_of(plain_results) / "fold_0" / "checkpoint_final.pth"
    state = torch.load(path, weights_only=False)
    weights = {f"_orig_mod.{key}": value for key, value in state["network_weights"].items()}
    torch.save({**state, "network_weights": weights}, path)
    assert set(read_checkpoint(path).weights) == set(state["network_weights"])


def test_a_trainer_that_is_not_installed_is_replaced_by_nnunets(plain_results: Path, copy_of: Copy) -> None:
    folder = copy_of(plain_results)
    path = folder / "fold_0" / "checkpoint_final.pth"
    torch.save({**torch.load(path, weights_only=False), "trainer_name": "MyTrainer"}, path)
    patch = torch.from_numpy(np.ones((1, 1, 8, 12, 16), dtype=np.float32))
    with torch.inference_mode():
        ours, theirs = (read_results_folder(f).network(patch) for f in (folder, plain_results))
    torch.testing.assert_close(ours, theirs)


def test_mirroring_where_the_network_was_trained_without_is_refused(plain_results: Path) -> None:
    with pytest.raises(ExportError, match="trained without mirroring"):
        read_results_folder(plain_results, mirror=True)


def test_roles_come_from_label_names() -> None:
    names = {"background": 0, "body": 1, "disc": 2, "canal": 3, "sacrum": 4, "c2": 5}
    assert recognised_roles(names) == {1: "vertebra", 2: "disc", 3: "canal", 4: "sacrum", 5: "c2"}
    levels = {"background": 0, "C2": 1, "C3": 2, "L5": 3, "L5-S1": 4, "Spinal canal": 5, "S": 6, "liver": 7}
    assert recognised_roles(levels) == {
        1: "c2", 2: "vertebra", 3: "vertebra", 4: "disc", 5: "canal", 6: "sacrum",
    }  # fmt: skip
    assert recognised_roles({"background": 0, "liver": 1, "spleen": 2, "sacrum": 3}) == {}


def test_roles_come_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    labels = {"background": 0, "bone": 1, "cushion": 2}
    table.write_text('{"bone": "vertebra", "2": "disc"}')
    assert roles_from_table(table, labels) == {1: "vertebra", 2: "disc"}
    for wrong, sentence in {
        '{"bone": "femur"}': "role 'femur' is unknown",
        '{"3": "disc", "bone": "vertebra"}': "'3' is no foreground label",
        '{"background": "disc"}': "no foreground label",
        '{"bone": "vertebra"}': "which a 'disc'",
        "[]": "JSON object",
    }.items():
        table.write_text(wrong)
        with pytest.raises(SpineError, match=sentence):
            roles_from_table(table, labels)
