"""Requests to the session's server over plain gRPC, well formed and otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient import grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

from spine_server import EmbeddedTriton
from spinecore import contract
from spinecore.geometry import Volume
from spinecore.phantom import Phantom

Array = NDArray[Any]


@dataclass(frozen=True)
class RawTensor:
    """A tensor as it goes over the wire; nothing makes its parts agree."""

    datatype: str
    shape: tuple[int, ...]
    content: bytes

    @classmethod
    def of(cls, array: Array) -> RawTensor:
        """The tensor of a numpy array, in order."""
        content = serialize_byte_tensor(array).item() if array.dtype == object else array.tobytes()
        return cls(np_to_triton_dtype(array.dtype), array.shape, content)


Tensors = Mapping[str, "Array | RawTensor"]


@dataclass(frozen=True)
class Ask:
    """Sends requests to one server; an error comes as `grpc.RpcError`."""

    stub: Any

    def __call__(
        self, model: str, tensors: Tensors, *, timeout_s: float = 60.0, **fields: Any
    ) -> dict[str, Array]:
        request = self.request(model, tensors, **fields)
        result = triton.InferResult(self.stub.ModelInfer(request, timeout=timeout_s))
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}

    @staticmethod
    def request(model: str, tensors: Tensors, **fields: Any) -> Any:
        """The protobuf message of a request."""
        request = service_pb2.ModelInferRequest(model_name=model, **fields)
        for name, tensor in tensors.items():
            raw = tensor if isinstance(tensor, RawTensor) else RawTensor.of(tensor)
            request.inputs.add(name=name, datatype=raw.datatype, shape=raw.shape)
            request.raw_input_contents.append(raw.content)
        return request

    def refused(self, model: str, tensors: Tensors, **fields: Any) -> grpc.RpcError:
        """The error that the request is answered with; it must be a clean one."""
        with pytest.raises(grpc.RpcError) as caught:
            self(model, tensors, **fields)
        details = caught.value.details()
        for telltale in ("Traceback", 'File "', ".py", "/work", "/home", "/tmp", "site-packages", "\n"):
            assert telltale not in details
        return caught.value


@pytest.fixture(scope="session")
def ask(server: EmbeddedTriton) -> Iterator[Ask]:
    """Requests to the session's server."""
    limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc_url, options=limits) as channel:
        yield Ask(service_pb2_grpc.GRPCInferenceServiceStub(channel))


@pytest.fixture(scope="session")
def volume(lumbar_phantom: Phantom) -> Volume:
    """The phantom as a volume."""
    return Volume(lumbar_phantom.image[np.newaxis], lumbar_phantom.affine)


@pytest.fixture
def good(volume: Volume) -> dict[str, Array]:
    """The tensors of a good request, to be spoilt."""
    return contract.encode_volume(volume)


@pytest.fixture
def small() -> dict[str, Array]:
    """The tensors of a well-formed request that is quick to spoil: 8 × 8 × 8 voxels of noise."""
    voxels = np.random.default_rng(0).integers(0, 500, (1, 8, 8, 8), dtype=np.int16)
    return contract.encode_volume(Volume(voxels, np.diag([2.0, 2.0, 2.0, 1.0])))


@pytest.fixture
def expect_code(ask: Ask) -> Callable[..., None]:
    """Check that a request is refused with a code of ours, as the caller's mistake."""

    def check(model: str, tensors: Tensors, code: str) -> None:
        error = ask.refused(model, tensors)
        assert f"[spineserve:{code}]" in error.details()
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT

    return check
