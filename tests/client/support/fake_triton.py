"""A gRPC server that speaks Triton's protocol and misbehaves on demand; it runs inside the test process."""

from __future__ import annotations

import json
import mmap
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from spine_client import RetryPolicy

QUICK = RetryPolicy(max_attempts=4, first_pause_s=0.01, max_pause_s=0.02)
"""Retries that do not slow the tests down."""
Behaviour = Callable[[pb.ModelInferRequest, Any], pb.ModelInferResponse]


def report_dict(**changes: Any) -> dict[str, Any]:
    """A small valid report with one named disc."""
    line = [[0.0, 0.0, 0.0], [0.0, 0.0, 9.0]]
    heights = {"anterior": 10.0, "middle": 9.0, "posterior": 8.0, "mean": 9.1}
    model = {"name": "spine-demo", "version": "1", "sha256": "ab" * 32, "trained_on": "synthetic phantoms"}
    bodies = [("L4", 23, 20.0), ("L5", 24, -20.0)]
    report = {
        "schema_version": "1.0",
        "kind": "spineserve.report",
        "disclaimer": "Research software, trained on synthetic phantoms, not a medical device.",
        "software": {"name": "spineserve", "version": "0.1.0"},
        "models": {"segmentation": model, "measurement": model},
        "naming": {"method": "sacrum", "named": True, "reason": "sacrum seen"},
        "vertebrae": [
            {
                "name": name,
                "label": label,
                "centroid_lps_mm": [0.0, 0.0, z],
                "volume_mm3": 3e4,
                "complete": True,
            }
            for name, label, z in bodies
        ],
        "discs": [
            {
                "name": "L4/L5",
                "label": 123,
                "upper": {"name": "L4", "label": 23},
                "lower": {"name": "L5", "label": 24},
                "centroid_lps_mm": [0.0, 0.0, 0.0],
                "height_mm": {"geometric": heights, "cnn": {**heights, "mean": 9.4}},
                "height_lines_lps_mm": {"anterior": line, "middle": line, "posterior": line},
                "canal_ap_mm": {"geometric": 14.2, "cnn": None},
                "canal_ap_line_lps_mm": None,
                "complete": True,
                "flags": [],
            }
        ],
        "canal": {"volume_mm3": 1e4, "min_ap_mm": 14.2},
        "warnings": [{"code": "demo_weights", "message": "The weights are a demonstration."}],
        "timings_s": {"segment": 1.5},
    }
    return {**report, **changes}


def input_tensors(request: pb.ModelInferRequest) -> dict[str, bytes]:
    """Content of the request by tensor name."""
    return {t.name: c for t, c in zip(request.inputs, request.raw_input_contents, strict=True)}


def good_answer(request: pb.ModelInferRequest, context: Any = None, **changes: Any) -> pb.ModelInferResponse:
    """Labels 0, 1, 2, … on the request's grid, and a report."""
    _, z, y, x = np.frombuffer(input_tensors(request)["SHAPE"], dtype="<i8")
    return answer((np.arange(z * y * x) % 251).astype(np.uint8).tobytes(), [z, y, x], report_dict(**changes))


def answer(labels: bytes, shape: list[int], report: Any) -> pb.ModelInferResponse:
    """A response of any content."""
    text = json.dumps(report).encode()
    response = pb.ModelInferResponse(model_name="spine_mri", model_version="1")
    response.outputs.add(name="LABELS", datatype="UINT8", shape=shape)
    response.outputs.add(name="REPORT", datatype="BYTES", shape=[1])
    response.raw_output_contents.extend([labels, len(text).to_bytes(4, "little") + text])
    return response


def labels_only(request: pb.ModelInferRequest, context: Any = None) -> pb.ModelInferResponse:
    """What the plain segmentation answers: half of the grid is label 3."""
    _, z, y, x = np.frombuffer(input_tensors(request)["SHAPE"], "<i8")
    labels = np.zeros((z, y, x), np.uint8)
    labels[: z // 2] = 3
    response = pb.ModelInferResponse(model_name=request.model_name)
    response.outputs.add(name="LABELS", datatype="UINT8", shape=[z, y, x])
    response.raw_output_contents.append(labels.tobytes())
    return response


def fails(code: grpc.StatusCode, details: str) -> Behaviour:
    """Refuse with a status."""

    def behave(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        context.abort(code, details)

    return behave


def hangs(seconds: float = 20.0) -> Behaviour:
    """Work until the client gives up."""

    def behave(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        end = time.monotonic() + seconds
        while context.is_active() and time.monotonic() < end:
            time.sleep(0.01)
        return good_answer(request)

    return behave


def in_shared_memory(servicer: FakeTriton) -> Behaviour:
    """Answer about voxels that lie in shared memory: the labels, put there too, are the voxels modulo 251."""

    def behave(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        (voxels,) = (t for t in request.inputs if t.name == "VOLUME")
        (labels,) = (t for t in request.outputs if t.name == "LABELS")
        region = servicer.regions[voxels.parameters["shared_memory_region"].string_param]
        size = voxels.parameters["shared_memory_byte_size"].int64_param
        offset = labels.parameters["shared_memory_offset"].int64_param
        content = (np.frombuffer(region[:size], "<i2") % 251).astype(np.uint8).tobytes()
        region[offset : offset + len(content)] = content
        shape = np.frombuffer(request.raw_input_contents[0], "<i8")[1:]
        return answer(b"", shape.tolist(), report_dict())

    return behave


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers the n-th inference with the n-th behaviour, the last one for ever."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours = behaviours or (good_answer,)
        self.url = ""
        self.server: grpc.Server | None = None
        self.requests: list[pb.ModelInferRequest] = []
        self.wire: list[bytes] = []
        self.metadata: list[dict[str, str]] = []
        self.cancelled = threading.Event()
        self.model_ready = True
        self.regions: dict[str, mmap.mmap] = {}
        self.registered: list[str] = []
        self.left: list[str] = []
        self.shared_memory_refusal: tuple[grpc.StatusCode, str] | None = None
        self.holds_on = False

    def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: N802
        if request.model_name == "attendant":
            return self._attend(request)
        copy = pb.ModelInferRequest()
        copy.CopyFrom(request)
        self.requests.append(copy)
        self.wire.append(request.SerializeToString())
        self.metadata.append(dict(context.invocation_metadata()))
        context.add_callback(lambda: None if context.is_active() else self.cancelled.set())
        behaviour = self.behaviours[min(len(self.requests), len(self.behaviours)) - 1]
        return behaviour(request, context)

    def _attend(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        self.left += [content[4:].decode() for content in request.raw_input_contents]
        state = b'{"supervised": true, "status": "ready", "restarts": 1, "reloads": {"segment": 2}}'
        return pb.ModelInferResponse(raw_output_contents=[len(state).to_bytes(4, "little") + state])

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.shared_memory_refusal is not None:
            context.abort(*self.shared_memory_refusal)
        path = Path("/dev/shm") / request.key.lstrip("/")
        with path.open("r+b") as file:
            self.regions[request.name] = mmap.mmap(file.fileno(), request.byte_size)
        self.registered.append(request.name)
        return pb.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.holds_on:
            context.abort(grpc.StatusCode.INTERNAL, "Cannot unregister, it is currently in use.")
        self.regions.pop(request.name, None)
        return pb.SystemSharedMemoryUnregisterResponse()

    def ServerLive(self, request: Any, context: Any) -> pb.ServerLiveResponse:  # noqa: N802
        return pb.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> pb.ServerReadyResponse:  # noqa: N802
        return pb.ServerReadyResponse(ready=True)

    def ModelReady(self, request: Any, context: Any) -> pb.ModelReadyResponse:  # noqa: N802
        return pb.ModelReadyResponse(ready=self.model_ready)

    def ServerMetadata(self, request: Any, context: Any) -> pb.ServerMetadataResponse:  # noqa: N802
        return pb.ServerMetadataResponse(name="triton", version="2.51.0")


def start(
    servicer: FakeTriton, credentials: Any = None, port: int = 0, host: str = "127.0.0.1"
) -> tuple[grpc.Server, int]:
    """Serve on loopback; the server and its port."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=options)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    address = f"{host}:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    return server, bound
