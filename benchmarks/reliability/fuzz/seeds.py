"""A good request for every model, to be spoilt: each stage's inputs are what the stage before it answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

from spinecore import contract
from spinecore.geometry import Volume

Array = NDArray[Any]
TIMEOUT_S = 120.0
ENTRIES = ("spine_mri", "segmentation")


def request(model: str, tensors: dict[str, Array], **more: Any) -> pb.ModelInferRequest:
    """The protobuf message of a well-formed request."""
    message = pb.ModelInferRequest(model_name=model, **more)
    for name, array in tensors.items():
        message.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
        content = serialize_byte_tensor(array).item() if array.dtype == object else array.tobytes()
        message.raw_input_contents.append(content)
    return message


def volume_tensors() -> dict[str, Array]:
    """8 × 8 × 8 voxels of noise: a volume that the network covers with one patch."""
    noise = np.random.default_rng(0).integers(0, 500, (1, 8, 8, 8), dtype=np.int16)
    return contract.encode_volume(Volume(noise, np.diag([2.0, 2.0, 2.0, 1.0])))


def outputs(answer: pb.ModelInferResponse) -> dict[str, bytes]:
    """An answer's tensors as they came, by name."""
    return {t.name: c for t, c in zip(answer.outputs, answer.raw_output_contents, strict=True)}


def seeds(stub: Any) -> dict[str, pb.ModelInferRequest]:
    """Good requests by model. `stub` speaks to Triton's own port, where all models can be reached."""
    volume = volume_tensors()
    good = {model: request(model, volume) for model in (*ENTRIES, "preprocess")}
    prepared = _ask(stub, good["preprocess"])
    good["segment"] = _follow(prepared, "segment", ("DATA", "DATA_SHAPE", "PLAN"))
    good["identify"] = request("identify", {**volume, "CLASSES": np.zeros(512, np.uint8)})
    good["report"] = _follow(_ask(stub, good["identify"]), "report", ("FINDINGS", "PATCHES"))
    rng = np.random.default_rng(0)
    good["nnunet"] = request("nnunet", {"PATCH": rng.random((1, 1, 128, 128, 64), np.float32)})
    good["measure_cnn"] = request("measure_cnn", {"PATCHES": rng.random((1, 8, 64, 64, 32), np.float32)})
    return good


def _ask(stub: Any, message: pb.ModelInferRequest) -> pb.ModelInferResponse:
    return stub.ModelInfer(message, timeout=TIMEOUT_S)


def _follow(answer: pb.ModelInferResponse, model: str, names: tuple[str, ...]) -> pb.ModelInferRequest:
    """What `model` gets from the stage before."""
    content = outputs(answer)
    message = pb.ModelInferRequest(model_name=model)
    for tensor in answer.outputs:
        if tensor.name in names:
            message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            message.raw_input_contents.append(content[tensor.name])
    return message
