"""Reading and writing a network's description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spinecore.errors import ModelError
from spinecore.network_spec import Channel, NetworkSpec, Resampling


def a_spec(**changes: Any) -> NetworkSpec:
    known: dict[str, Any] = {
        "name": "spine",
        "version": "1.2",
        "sha256": "ab" * 32,
        "reader": "reorient_ras",
        "spacing_mm": (1.25, 1.25, 1.25),
        "patch_size": (128, 128, 64),
        "channels": (Channel("MR", "ZScoreNormalization", True, {"mean": 1.5}),),
        "labels": {"background": 0, "body": 1, "disc": 2},
        "num_outputs": 3,
        "transpose_forward": (1, 2, 0),
        "transpose_backward": (2, 0, 1),
        "resampling_data": Resampling("default", 3, 0, None),
        "resampling_logits": Resampling("torch", 1, 0, True),
        "mirror_axes": (0, 1),
        "roles": {1: "vertebra", 2: "disc"},
    }
    return NetworkSpec(**{**known, **changes})


def test_a_description_reads_back_equal_and_is_stable(tmp_path: Path) -> None:
    spec = a_spec()
    path = tmp_path / "network.json"
    path.write_text(spec.to_json())
    assert NetworkSpec.load(path) == spec
    assert NetworkSpec.load(path).to_json() == spec.to_json()
    assert json.loads(spec.to_json())["format"] == 1


def test_regions_read_back_equal() -> None:
    labels = {"background": 0, "whole": (1, 2), "core": 2, "ignore": 3}
    spec = a_spec(labels=labels, regions_class_order=(1, 2), num_outputs=2, ignore_label=3, roles={})
    assert spec.has_regions
    assert NetworkSpec.from_json(spec.to_json()) == spec


def test_an_ignore_label_has_no_output() -> None:
    assert not a_spec(labels={"background": 0, "a": 1, "b": 2, "ignore": 3}, ignore_label=3).has_regions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": (128, 0, 64)}, "patch_size"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, "spacing_mm"),
        ({"transpose_backward": (1, 2, 0)}, "undo"),
        ({"transpose_forward": (0, 0, 1)}, "permutations"),
        ({"reader": "magic"}, "reader"),
        ({"mirror_axes": (0, 3)}, "mirror_axes"),
        ({"step_size": 0.0}, "step_size"),
        ({"channels": ()}, "no input channels"),
        ({"channels": (Channel("MR", "MyNormalization"),)}, "MyNormalization"),
        ({"channels": (Channel("CT", "CTNormalization"),)}, "percentile_99_5"),
        ({"labels": {"body": 1}}, "background"),
        ({"labels": {"background": 0, "body": 1, "disc": 7}}, "labels must be 0 to 2"),
        ({"num_outputs": 5}, "5 outputs"),
        ({"num_outputs": 300}, "num_outputs"),
        ({"regions_class_order": (1, 2, 3)}, "regions_class_order"),
        ({"labels": {"background": 0, "all": (1, 2)}, "num_outputs": 1}, "regions_class_order"),
        ({"resampling_data": Resampling("my_function")}, "resampling_data.kind"),
        ({"resampling_logits": Resampling(order=9)}, "spline orders"),
    ],
)
def test_a_description_that_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        a_spec(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "object"),
        ("{}", "format 1"),
        ('{"format": 2}', "it has 2"),
        ('{"format": 1, "name": "x"}', "does not fit"),
        (a_spec().to_json().replace('"name"', '"nam"', 1), "does not fit"),
        (a_spec().to_json().replace('"order"', '"ordre"'), "resampling_data does not fit"),
        (a_spec().to_json().replace("128", '"wide"'), "does not fit"),
    ],
)
def test_a_damaged_file_is_named_as_such(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        NetworkSpec.from_json(text)


def test_a_missing_file_is_named_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"network\.json") as caught:
        NetworkSpec.load(tmp_path / "network.json")
    assert str(tmp_path) not in str(caught.value)
