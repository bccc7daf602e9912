"""What the gate counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCY_BUCKETS_S = (0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 60, 120, 300)


class GateMetrics:
    """The gate's metrics, in a registry of their own so that several gates fit into one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "spineserve_gate_requests",
            "Calls answered, by method and gRPC status",
            ["method", "code"],
            registry=self.registry,
        )
        self.refused = Counter(
            "spineserve_gate_refused",
            "Calls that did not reach Triton, by reason",
            ["reason"],
            registry=self.registry,
        )
        self.inflight = Gauge(
            "spineserve_gate_inflight_requests", "Studies that Triton works on now", registry=self.registry
        )
        self.seconds = Histogram(
            "spineserve_gate_request_seconds",
            "Seconds from the first byte of a study to its answer",
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.bytes = Counter(
            "spineserve_gate_bytes", "Payload, by direction", ["direction"], registry=self.registry
        )

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
