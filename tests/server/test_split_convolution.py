"""Convolutions over joined maps: the same answer as a sum, and everything else left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import Model, Node
from openvino import opset13 as ops

from spine_server.openvino_engine import EngineOptions, OpenVinoEngine
from spine_server.split_convolution import split_convolutions

F32 = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
MAPS = (3, 5, 2)
"""Maps of the parts that are joined."""


def joined_and_convolved(
    sides: Sequence[int], *, strides: int = 1, axis: int = 1, also: Callable[[Node], Node] | None = None
) -> Model:
    """Parts of `MAPS` maps joined along `axis` and convolved into 4; `also` uses what is joined too."""
    maps = MAPS if axis in (1, -len(sides) - 1) else [3] * len(MAPS)
    given = [ops.parameter((1, each, *sides), np.float32) for each in maps]
    joined = ops.concat(given, axis)
    weights = np.random.default_rng(3).standard_normal((4, joined.shape[1], *[3] * len(sides)), np.float32)
    ends = [1] * len(sides)
    answer = ops.convolution(joined, weights, [strides] * len(sides), ends, ends, ends)
    return Model([answer] if also is None else [answer, also(joined)], given)


def answer_of(model: Model) -> np.ndarray:
    rng = np.random.default_rng(4)
    given = [rng.standard_normal(tuple(port.shape), np.float32) for port in model.inputs]
    answer: np.ndarray = openvino.Core().compile_model(model, "CPU", F32)(given)[0]
    return answer


def joins(model: Model) -> int:
    return [node.get_type_name() for node in model.get_ordered_ops()].count("Concat")


@pytest.mark.parametrize("sides", [(9, 8), (6, 7, 8)])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("from_the_end", [False, True])
def test_a_sum_of_convolutions_answers_the_same(
    sides: tuple[int, ...], strides: int, from_the_end: bool
) -> None:
    axis = -len(sides) - 1 if from_the_end else 1
    reference = answer_of(joined_and_convolved(sides, strides=strides, axis=axis))
    model = joined_and_convolved(sides, strides=strides, axis=axis)
    assert split_convolutions(model) == 1
    assert joins(model) == 0
    np.testing.assert_allclose(answer_of(model), reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("parameters", "joined"), [({}, 0), (F32, 1)])
def test_the_engine_splits_but_for_the_exact_mode(
    tmp_path: Path, parameters: dict[str, str], joined: int
) -> None:
    openvino.save_model(joined_and_convolved((6, 7, 8)), tmp_path / "model.xml")
    engine = OpenVinoEngine(tmp_path / "model.xml", EngineOptions.from_parameters(parameters))
    layers = [
        node.get_rt_info()["layerType"].value for node in engine._compiled.get_runtime_model().get_ops()
    ]
    assert layers.count("Concatenation") == joined


def test_what_is_joined_along_another_axis_or_used_elsewhere_too_is_left_alone() -> None:
    for model in (
        joined_and_convolved((6, 7, 8), axis=2),
        joined_and_convolved((6, 7, 8), also=lambda joined: ops.relu(joined)),
    ):
        assert split_convolutions(model) == 0
        assert joins(model) == 1
