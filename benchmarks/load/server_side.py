"""What the server says about itself during a run: Triton's statistics and metrics, and the processes' CPU.

Counters of all replicas are added up. A look that cannot be taken whole is left out, so that sums never
mix.
"""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc
import psutil
from prometheus_client.parser import text_string_to_metric_families
from reliability.processes import tree
from tritonclient.grpc import service_pb2 as pb

from load.target import Target
from spine_client import SpineClient

INTERVAL_S = 1.0
_GAUGES = {
    "nv_cpu_utilization": "cpu",
    "nv_cpu_memory_used_bytes": "memory_bytes",
    "nv_gpu_utilization": "gpu",
    "nv_gpu_memory_used_bytes": "gpu_memory_bytes",
    "nv_gpu_power_usage": "gpu_power_w",
}
"""Metrics of Triton, and how they are called in results. Shares are from 0 to 1; several replicas: means."""
_PENDING = "nv_inference_pending_request_count"


@dataclass
class Counters:
    """Of one model since its server started; seconds. A request's time is queue, then compute."""

    requests: int = 0
    failed: int = 0
    executions: int = 0
    queue_s: float = 0.0
    compute_s: float = 0.0

    def plus(self, other: Counters, sign: int = 1) -> Counters:
        """Sum, or with `sign` -1 difference."""
        mine, others = asdict(self), asdict(other)
        return Counters(**{name: mine[name] + sign * others[name] for name in mine})


@dataclass(frozen=True)
class Look:
    """One look, at a moment of the wall clock."""

    at: float
    models: dict[str, Counters] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    pending: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)


class Watch:
    """Takes looks while the block lasts.

    Parameters
    ----------
    hosts : replicas to ask for statistics, each by its own address; names that stand for several are no use
    metrics_urls : of the same replicas
    processes : name -> pids on this machine, for the CPU time of those processes and all below them
    """

    def __init__(
        self,
        target: Target,
        hosts: Sequence[str],
        metrics_urls: Sequence[str],
        processes: Mapping[str, Sequence[int]],
    ) -> None:
        self._clients = [target.client(timeout_s=10.0, attempts=1, only=host) for host in hosts]
        self._urls = list(metrics_urls)
        self._usage = {name: _Usage(pids) for name, pids in processes.items()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.looks: list[Look] = []
        self.missed: dict[str, int] = {}

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.looks.append(self.look())
        for client in self._clients:
            client.close()

    def look(self) -> Look:
        """One look, now."""
        look = Look(time.time())
        for source, take in (("statistics", self._statistics), ("metrics", self._metrics)):
            try:
                take(look)
            except Exception as error:  # whatever a server that is under test may do to who looks at it
                look.models.clear() if source == "statistics" else look.gauges.clear()
                reason = error.code().name if isinstance(error, grpc.RpcError) else type(error).__name__
                name = f"{source}: {reason}"
                self.missed[name] = self.missed.get(name, 0) + 1
        look.cpu_s.update({name: usage.seconds() for name, usage in self._usage.items()})
        return look

    def _run(self) -> None:
        while not self._over.wait(INTERVAL_S):
            self.looks.append(self.look())

    def _statistics(self, look: Look) -> None:
        for client in self._clients:
            for name, counters in statistics(client).items():
                look.models[name] = look.models.get(name, Counters()).plus(counters)

    def _metrics(self, look: Look) -> None:
        values: dict[str, list[float]] = {}
        for url in self._urls:
            # The address is given by who starts the run.
            with urllib.request.urlopen(url, timeout=5.0) as answer:  # nosec B310
                text = answer.read().decode()
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name == _PENDING:
                        model = sample.labels["model"]
                        look.pending[model] = look.pending.get(model, 0.0) + sample.value
                    elif sample.name in _GAUGES:
                        values.setdefault(_GAUGES[sample.name], []).append(sample.value)
        look.gauges.update({name: sum(each) / len(each) for name, each in values.items()})


def statistics(client: SpineClient) -> dict[str, Counters]:
    """Triton's statistics of all models of one server; the SDK's own connection asks."""
    answer: Any = client._stub.ModelStatistics(
        pb.ModelStatisticsRequest(), timeout=5.0, metadata=client._access.metadata()
    )
    return {each.name: _counters(each) for each in answer.model_stats}


def _counters(each: Any) -> Counters:
    times = each.inference_stats
    compute_ns = times.compute_input.ns + times.compute_infer.ns + times.compute_output.ns
    return Counters(
        requests=times.success.count,
        failed=times.fail.count,
        executions=each.execution_count,
        queue_s=times.queue.ns / 1e9,
        compute_s=compute_ns / 1e9,
    )


class _Usage:
    """CPU seconds of some processes and all below them, those that have ended meanwhile included."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids, self._seen = pids, dict[int, float]()

    def seconds(self) -> float:
        """Since each was first seen; never less than before."""
        for pid in (each for root in self._pids for each in tree(root)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = psutil.Process(pid).cpu_times()
                self._seen[pid] = times.user + times.system
        return sum(self._seen.values())


def between(looks: Sequence[Look], start: float, end: float) -> list[Look]:
    """The looks from `start` to `end` of the wall clock, and the last one before."""
    before = [look for look in looks if look.at < start][-1:]
    return before + [look for look in looks if start <= look.at <= end]


def spent(looks: Sequence[Look]) -> dict[str, Counters]:
    """What was counted from the first to the last of `looks`; nothing where a server was started anew."""
    whole = [look for look in looks if look.models]
    if len(whole) < 2:
        return {}
    first, last = whole[0].models, whole[-1].models
    grown = {name: each.plus(first.get(name, Counters()), -1) for name, each in last.items()}
    return {name: each for name, each in grown.items() if each.requests > 0}


def use(looks: Sequence[Look]) -> dict[str, float]:
    """Means of the gauges, and by group of processes how many cores were busy."""
    found: dict[str, float] = {}
    for name in sorted({name for look in looks for name in look.gauges}):
        values = [look.gauges[name] for look in looks if name in look.gauges]
        found[name] = sum(values) / len(values)
    if len(looks) > 1 and (seconds := looks[-1].at - looks[0].at) > 0:
        for name, after in looks[-1].cpu_s.items():
            found[f"cores_{name}"] = (after - looks[0].cpu_s[name]) / seconds
    return found
