"""Ways to spoil a good request, chosen by hypothesis: tensors, contents, options, parameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

Draw = Callable[[Any], Any]
Spoiler = Callable[[pb.ModelInferRequest, Draw], None]

EDGES = (0, 1, -1, 2, 4, 31, 2**15, 2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**62, 2**63 - 1, -(2**63), 2**61 + 1)
DATATYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
    "BYTES", "BF16", "", "FP8", "TYPE_UINT8", "\x00",
)  # fmt: skip
NAMES = (
    "spine_mri",
    "nnunet",
    "",
    "no_such_model",
    "../../etc/passwd",
    "spine_mri\x00",
    "SPINE_MRI",
    "x" * 5000,
)
VERSIONS = ("", "1", "0", "-1", "99", "1.0", "one", "99999999999999999999", "../1", " 1")
PARAMETERS = (
    "classification", "binary_data", "binary_data_output", "shared_memory_region", "shared_memory_byte_size",
    "shared_memory_offset", "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers",
    "triton_enable_empty_final_response", "unheard_of",
)  # fmt: skip
BYTES = st.sampled_from(
    [
        b"",
        b"\0",
        b"\xff" * 8,
        b"\0\0\xc0\x7f" * 4,
        b"\0\0\x80\x7f" * 4,
        b"\xff\xff\xff\xffint16",
        b"\5\0\0\0int16",
    ]
) | st.binary(max_size=4096)
_INTEGERS = st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1)
_TEXTS = st.sampled_from(["", "\n\n", "a" * 20_000, "%s%n%x", "é" * 40, "$(id)", "';--"]) | st.text(
    max_size=60
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**70), 2**70) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_KEYS = ("region", "window_center", "window_width", "mirroring", "step_size", "patient_name")


def _any_tensor(message: pb.ModelInferRequest, draw: Draw) -> int | None:
    count = min(len(message.inputs), len(message.raw_input_contents))
    return draw(st.integers(0, count - 1)) if count else None


def drop_tensor(message: pb.ModelInferRequest, draw: Draw) -> None:
    """Leave out a tensor, its content, or both."""
    if (index := _any_tensor(message, draw)) is None:
        return
    which = draw(st.sampled_from(["both", "tensor", "content"]))
    if which != "content":
        del message.inputs[index]
    if which != "tensor":
        del message.raw_input_contents[index]


def repeat_tensor(message: pb.ModelInferRequest, draw: Draw) -> None:
    """Send a tensor twice."""
    if (index := _any_tensor(message, draw)) is not None:
        message.inputs.add().CopyFrom(message.inputs[index])
        message.raw_input_contents.append(message.raw_input_contents[index])


def rename_tensor(message: pb.ModelInferRequest, draw: Draw) -> None:
    """Give a tensor another name."""
    if (index := _any_tensor(message, draw)) is not None:
        message.inputs[index].name = draw(_TEXTS | st.sampled_from([t.name for t in message.inputs]))


def change_datatype(message: pb.ModelInferRequest, draw: Draw) -> None:
    """Say that a tensor is of another type."""
    if (index := _any_tensor(message, draw)) is not None:
        message.inputs[index].datatype = draw(st.sampled_from(DATATYPES))


def change_shape(message: pb.ModelInferRequest, draw: Draw) -> None:
    """Say that a tensor has another shape, at and past integer limits too."""
    if (index := _any_tensor(message, draw)) is None:
        return
    shape = list(message.inputs[index].shape)
    if shape and draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = draw(_INTEGERS)
    else:
        shape = draw(st.lists(_INTEGERS, max_size=8))
    del message.inputs[index].shape[:]
    message.inputs[index].shape.extend(shape)


def change_content(message: pb.ModelInferRequest, draw: Draw) -> None:
    """Cut, lengthen, replace or dirty a tensor's bytes."""
    if (index := _any_tensor(message, draw)) is None:
        return
    content = message.raw_input_contents[index]
    way = draw(st.sampled_from(["cut", "longer", "replace", "dirty", "edge"]))
    if way == "cut":
        content = content[: draw(st.integers(0, max(0, len(content) - 1)))]
    elif way == "longer":
        content += draw(BYTES)
    elif way == "replace":
        content = draw(BYTES)
    else:
        patch = draw(BYTES) if way == "dirty" else draw(_INTEGERS).to_bytes(8, "little", signed=True)
        place = draw(st.integers(0, len(content)))
        content = (content[:place] + patch + content[place + len(patch) :])[: len(content)]
    message.raw_input_contents[index] = content


def typed_content(message: pb.ModelInferRequest, draw: Draw) -> None:
    """Put contents into the typed fields, beside or instead of the raw bytes."""
    if (index := _any_tensor(message, draw)) is None:
        return
    contents = message.inputs[index].contents
    contents.int64_contents.extend(draw(st.lists(_INTEGERS, max_size=6)))
    contents.bytes_contents.extend(draw(st.lists(BYTES, max_size=3)))
    if draw(st.booleans()):
        del message.raw_input_contents[:]


def change_options(message: pb.ModelInferRequest, draw: Draw) -> None:
    """Options of every kind: odd values, deep nesting, two megabytes, no text at all."""
    way = draw(st.sampled_from(["values", "anything", "deep", "huge", "binary"]))
    if way == "values":
        text = json.dumps(draw(st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=4))).encode()
    elif way == "anything":
        text = json.dumps(draw(_JSON)).encode()
    elif way == "deep":
        text = b'{"region":' * draw(st.sampled_from([50, 2000, 100_000]))
    elif way == "huge":
        text = b'{"region": "' + b"l" * 2**21 + b'"}'
    else:
        text = draw(st.binary(max_size=64))
    message.inputs.add(name="OPTIONS", datatype="BYTES", shape=[1])
    message.raw_input_contents.append(len(text).to_bytes(4, "little") + text)


def change_address(message: pb.ModelInferRequest, draw: Draw) -> None:
    """Another model, version or id."""
    way = draw(st.sampled_from(["model", "version", "id"]))
    if way == "model":
        message.model_name = draw(st.sampled_from(NAMES))
    elif way == "version":
        message.model_version = draw(st.sampled_from(VERSIONS))
    else:
        message.id = draw(_TEXTS)


def add_parameter(message: pb.ModelInferRequest, draw: Draw) -> None:
    """Parameters of Triton's extensions, on the request, a tensor or an output."""
    places: list[Any] = [message, *message.inputs[:1]]
    if draw(st.booleans()):
        places = [
            message.outputs.add(name=draw(st.sampled_from(["LABELS", "REPORT", "DATA", "LOGITS", "SECRETS"])))
        ]
    parameter = draw(st.sampled_from(places)).parameters[draw(st.sampled_from(PARAMETERS))]
    kind = draw(
        st.sampled_from(["int64_param", "bool_param", "string_param", "double_param", "uint64_param"])
    )
    values = {
        "int64_param": _INTEGERS,
        "bool_param": st.booleans(),
        "string_param": _TEXTS,
        "double_param": st.floats(),
    }
    setattr(parameter, kind, draw(values.get(kind, st.integers(0, 2**64 - 1))))


def ask_outputs(message: pb.ModelInferRequest, draw: Draw) -> None:
    """Outputs that are unknown, doubled or named oddly."""
    for name in draw(
        st.lists(st.sampled_from(["LABELS", "REPORT", "CLASSES", "SECRETS", ""]) | _TEXTS, max_size=4)
    ):
        message.outputs.add(name=name)


SPOILERS: tuple[Spoiler, ...] = (
    drop_tensor, repeat_tensor, rename_tensor, change_datatype, change_shape, change_content, typed_content,
    change_options, change_address, add_parameter, ask_outputs,
)  # fmt: skip


@st.composite
def spoilt(draw: Any, good: dict[str, pb.ModelInferRequest]) -> tuple[pb.ModelInferRequest, str]:
    """A good request with one to three things wrong, and what was done to it."""
    model = draw(st.sampled_from(sorted(good)))
    message = pb.ModelInferRequest()
    message.CopyFrom(good[model])
    done = []
    for spoil in draw(st.lists(st.sampled_from(SPOILERS), min_size=1, max_size=3)):
        spoil(message, draw)
        done.append(spoil.__name__)
    return message, f"{model}: {' + '.join(done)}"
