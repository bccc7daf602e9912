"""Sends volumes with the SDK and notes what became of each. Knows nothing of Locust or gevent."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from load.records import OK, Record
from load.target import Target
from load.volumes import Sample
from load.workload import Workload
from spine_client import SpineClient, SpineClientError
from spine_client._tracing import InferenceSpan


class TimingClient(SpineClient):
    """The SDK's client, its requests, retries and errors, with a clock where it waits for the server."""

    def _open(self) -> None:
        super()._open()
        self._waited: dict[str | None, tuple[float, int]] = {}

    def _ask(self, step: Any, tell: Any) -> Any:
        began = time.perf_counter()
        try:
            return super()._ask(step, tell)
        finally:
            waited_s, attempts = self._waited.get(step.request_id, (0.0, 0))
            self._waited[step.request_id] = (waited_s + time.perf_counter() - began, attempts + 1)

    def waited(self, request_id: str) -> tuple[float, int]:
        """Seconds that a request which is over has waited for the server, and its attempts; told once."""
        return self._waited.pop(request_id, (0.0, 0))


class Sender:
    """One client and the volumes of a workload. `begin` sets the clock; `send` may be called concurrently.

    `worker` is the number that its records bear.
    """

    def __init__(self, target: Target, workload: Workload, samples: Sequence[Sample]) -> None:
        client = target.client(timeout_s=workload.timeout_s, attempts=workload.attempts, kind=TimingClient)
        assert isinstance(client, TimingClient)
        self.client, self._samples = client, samples
        self.worker = 0
        self._began = time.perf_counter()

    def warm_up(self) -> str | None:
        """Connect, and load what the SDK loads late; what is wrong with the server, if anything is."""
        InferenceSpan("warm-up", "").end()
        return self.client.health().problem

    def begin(self, in_s: float = 0.0) -> None:
        """The run starts in so many seconds."""
        self._began = time.perf_counter() + in_s

    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._began

    def send(self, number: int, phase: int, volume: int, due_s: float | None = None) -> Record:
        """Send one volume now, wait for the whole answer; `due_s` is when it should have been sent."""
        sample, request_id = self._samples[volume], uuid.uuid4().hex
        sent_s, outcome, code, stages = self.now(), OK, "", {}
        try:
            stages = self.client.analyze(sample.volume, request_id=request_id).timings_s
        except SpineClientError as error:
            outcome, code = type(error).__name__, str(getattr(error, "code", ""))
        done_s = self.now()
        wire_s, attempts = self.client.waited(request_id)
        return Record(
            number=number,
            phase=phase,
            kind=sample.kind,
            due_s=sent_s if due_s is None else due_s,
            sent_s=sent_s,
            done_s=done_s,
            wire_s=wire_s,
            outcome=outcome,
            code=code,
            attempts=max(attempts, 1),
            worker=self.worker,
            stages_s=dict(stages),
        )
