"""OpenTelemetry spans of the stages, off unless ``OTEL_EXPORTER_OTLP_ENDPOINT`` names a collector.

The caller's context travels as the request parameter ``traceparent`` (W3C), which Triton's ensembles hand to
every step; a stage hands its own to the network it calls. Spans hold the stage, the request id and the
outcome, never anything of a volume. They go out as OTLP over HTTP, in the background. Needs the extra
``trace``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
PARAMETER = "traceparent"


class Tracer:
    """Makes the spans of one stage."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._tracer = _tracer() if os.environ.get(ENDPOINT_VARIABLE) else None

    @contextmanager
    def span(self, request_id: str, traceparent: str) -> Iterator[Span]:
        """A span around the work on one request, a child of the caller's."""
        if self._tracer is None:
            yield Span(None, traceparent)
            return
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        propagator = TraceContextTextMapPropagator()
        parent = propagator.extract({PARAMETER: traceparent})
        with self._tracer.start_as_current_span(self._stage, context=parent) as span:
            span.set_attribute("spineserve.request_id", request_id)
            carrier: dict[str, str] = {}
            propagator.inject(carrier)
            yield Span(span, carrier.get(PARAMETER, ""))


class Span:
    """One span, or nothing where tracing is off. `traceparent` is what a called model gets."""

    def __init__(self, span: Any, traceparent: str) -> None:
        self._span = span
        self.traceparent = traceparent

    def ended(self, outcome: str) -> None:
        """Say how the work ended: ``ok`` or an error's code."""
        if self._span is None:
            return
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("spineserve.outcome", outcome)
        self._span.set_status(StatusCode.OK if outcome == "ok" else StatusCode.ERROR)


def _tracer() -> Any:
    """A tracer that exports to the collector, or None without the packages."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return None
    provider = TracerProvider(resource=Resource.create({"service.name": "spineserve"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=1000))
    return provider.get_tracer("spine_server")
