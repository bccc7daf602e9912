"""Convolutions over joined maps, written as sums of convolutions: less memory in the decoder of a U-Net.

A U-Net joins upsampled and skipped maps and convolves both. OpenVINO (2026.4 on the CPU) copies the two side
by side for that, which at the paper's width is 128 MiB of a patch's bf16. A convolution is linear in its
input's maps, so each part is convolved by its share of the weights, and OpenVINO adds the second into the
first as it goes. What is rounded in between differs: not for networks that are held to float32, whose
memory it does not lower either.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from openvino import Model, Node, Output
from openvino import opset13 as ops

_MAPS = 1
"""The axis of the maps in (B, C, Y, X) and (B, C, Z, Y, X), and of a convolution's weights (K, C, ...)."""


def split_convolutions(model: Model) -> int:
    """Replace the convolutions of `model` whose input is joined for them alone; how many there were."""
    found = [node for node in model.get_ordered_ops() if _is_over_joined_maps(node)]
    for node in found:
        first, *others = _convolved_parts(node)
        for other in others:
            first = ops.add(first, other)
        node.output(0).replace(first.output(0))
    model.validate_nodes_and_infer_types()
    return len(found)


def _is_over_joined_maps(node: Node) -> bool:
    if node.get_type_name() != "Convolution":
        return False
    joined = node.input_value(0).get_node()
    if joined.get_type_name() != "Concat" or len(joined.output(0).get_target_inputs()) > 1:
        return False
    shapes = [part.get_partial_shape() for part in joined.input_values()]
    if any(shape.rank.is_dynamic or shape[_MAPS].is_dynamic for shape in shapes):
        return False
    return bool(joined.get_attributes()["axis"] % len(shapes[0]) == _MAPS)


def _convolved_parts(node: Node) -> Iterator[Node]:
    """Each part of the joined input by its share of the weights."""
    how, weights, start = node.get_attributes(), node.input_value(1), 0
    for part in node.input_value(0).get_node().input_values():
        stop = start + part.get_partial_shape()[_MAPS].get_length()
        yield ops.convolution(
            part,
            _share(weights, start, stop),
            how["strides"],
            how["pads_begin"],
            how["pads_end"],
            how["dilations"],
            how["auto_pad"],
        )
        start = stop


def _share(weights: Output, start: int, stop: int) -> Node:
    bounds = (np.array([each], dtype=np.int64) for each in (start, stop, 1, _MAPS))
    return ops.slice(weights, *bounds)
