"""A span around each inference, where the application has set up OpenTelemetry; nothing elsewhere.

The SDK needs only ``opentelemetry-api`` (extra ``trace``) and configures nothing. The span's context goes to
the server with the request, so that the stages' spans hang below it.
"""

from __future__ import annotations

from typing import Any


class InferenceSpan:
    """The span of one inference, a child of what the application has open."""

    def __init__(self, model: str, request_id: str) -> None:
        self._span = _start(f"spineserve {model}")
        if self._span is not None:
            self._span.set_attribute("spineserve.request_id", request_id)

    @property
    def traceparent(self) -> str:
        """W3C trace context for the server; empty where nobody traces."""
        context = self._span.get_span_context() if self._span is not None else None
        if context is None or not context.is_valid:
            return ""
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def end(self, error: BaseException | None = None) -> None:
        """End the span; `error` marks it as failed, by its kind alone."""
        if self._span is None:
            return
        if error is not None:
            self._span.set_attribute("error.type", type(error).__name__)
        self._span.end()


def _start(name: str) -> Any:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("spine_client").start_span(name)
