"""What the tests of the load tests share: the import path, and a server that answers after a while."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))
sys.path.insert(0, str(ROOT / "tests" / "client" / "support"))

from fake_triton import FakeTriton, good_answer  # noqa: E402


class SlowTriton(FakeTriton):
    """Answers rightly after some seconds, and counts how many it has had before it at a time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(self._answer)
        self.seconds, self.now, self.most = seconds, 0, 0
        self._lock = threading.Lock()

    def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelStatisticsResponse()

    def _answer(self, request: Any, context: Any) -> Any:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self._lock:
            self.now -= 1
        return good_answer(request)


@pytest.fixture
def slow_server() -> Iterator[Callable[[float], SlowTriton]]:
    """`slow_server(seconds)` starts one that takes 32 volumes at a time."""
    servers = []

    def begin(seconds: float) -> SlowTriton:
        servicer = SlowTriton(seconds)
        server = grpc.server(futures.ThreadPoolExecutor(32))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        servicer.url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        servers.append(server)
        return servicer

    yield begin
    for server in servers:
        server.stop(None)
