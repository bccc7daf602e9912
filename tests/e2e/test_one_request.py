"""One request through the server: the same answer in all circumstances, and one id to follow it by."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spine_client import RetryPolicy, SpineClient, SpineResult
from spine_server import EmbeddedTriton, ServerOptions
from spinecore.phantom import PhantomConfig, make_phantom

PATIENT = RetryPolicy(max_attempts=20)


@dataclass
class Collector:
    """An OTLP collector on loopback; spans as (name, trace, own id, parent's id)."""

    url: str = ""
    spans: list[Any] = field(default_factory=list)
    raw: bytes = b""

    def take(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collected = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collected.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collected.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield collected
    server.shutdown()


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Another server than the session's, started later: its URL and its JSON log."""
    log = tmp_path_factory.mktemp("traced") / "server.log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        options = ServerOptions(log_level="info", log_format="json", log_file=log, start_timeout_s=500.0)
        with EmbeddedTriton(options) as server:
            yield server.grpc_url, log


def study(seed: int) -> tuple[Any, Any]:
    spacing, fov = (1.0, 1.0, 4.0), (220, 160, 60)
    phantom = make_phantom(
        PhantomConfig(seed=seed, region="lumbar", spacing_mm=spacing, orientation="LPS", fov_mm=fov)
    )
    return phantom.image, phantom.affine


def content(result: SpineResult) -> tuple[bytes, dict[str, Any]]:
    """The label map's bytes and the report, without what belongs to the one run: its id and its seconds."""
    report = dict(result.report.raw)
    return result.labels.tobytes(), {k: v for k, v in report.items() if k not in ("request_id", "timings_s")}


def test_the_same_volume_gets_the_same_answer(server: EmbeddedTriton, traced: tuple[str, Path]) -> None:
    """Alone, among others, in another order, by another instance, and on a server started anew."""
    studies = [study(1), study(2), study(3)]
    with SpineClient(server.grpc_url, retry=PATIENT) as client:
        alone = [content(client.analyze(each)) for each in studies]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda each: content(client.analyze(each)), [*studies[::-1], *studies]))
    with SpineClient(traced[0], retry=PATIENT) as client:
        restarted = [content(client.analyze(each)) for each in studies]
    assert len({labels for labels, _ in alone}) == 3
    assert together == [*alone[::-1], *alone]
    assert restarted == alone
    assert any(np.frombuffer(labels, np.uint8).any() for labels, _ in alone)


def test_a_request_can_be_followed_by_its_id_and_its_trace(
    collector: Collector, traced: tuple[str, Path]
) -> None:
    exported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    trace.set_tracer_provider(provider)
    url, log = traced
    with SpineClient(url, retry=PATIENT) as client:
        result = client.analyze(study(1), request_id="follow-me")
    (mine,) = exported.get_finished_spans()
    stages = {"preprocess", "segment", "nnunet", "identify", "measure_cnn", "report"}
    spans = _spans_of(collector, mine.context.trace_id, stages)
    by_name = {span.name: span for span in spans}
    assert set(by_name) == stages
    callers = {"nnunet": by_name["segment"].span_id, "measure_cnn": by_name["report"].span_id}
    for span in spans:
        assert span.parent_span_id == callers.get(span.name, mine.context.span_id.to_bytes(8, "big"))
    told = {str(each.value.string_value) for span in spans for each in span.attributes}
    assert told <= {"follow-me", "ok"}
    assert result.report.raw["request_id"] == "follow-me"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    mine_in_log = [line for line in lines if line.get("request") == "follow-me"]
    assert {line["stage"] for line in mine_in_log} == stages
    assert all(line["level"] == "info" and line["ms"] >= 0 for line in mine_in_log)


def _spans_of(collector: Collector, trace_id: int, wanted: set[str]) -> list[Any]:
    """All spans of a trace, once every wanted one is there: stages export a second later."""
    wanted_id, tick = trace_id.to_bytes(16, "big"), threading.Event()
    for _ in range(300):
        found = [span for span in collector.spans if span.trace_id == wanted_id]
        if {span.name for span in found} >= wanted:
            return found
        tick.wait(0.1)
    return found
