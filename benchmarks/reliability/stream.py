"""A steady stream of phantom volumes, and what became of each.

Every answer is compared with the one that the same volume got while nothing was wrong, byte for byte.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from spine_client import RetryPolicy, SpineClient, SpineClientError, Volume
from spine_client.progress import Progress
from spinecore.phantom import SMALL_LUMBAR, make_phantom

ONE_ATTEMPT = RetryPolicy(max_attempts=1)
PATIENT = RetryPolicy(max_attempts=12)
"""As the SDK's documentation advises where a restart is to be ridden out."""


def phantoms(count: int) -> list[Volume]:
    """Small lumbar volumes, each covered by one patch of the network."""
    drawn = (make_phantom(replace(SMALL_LUMBAR, seed=910_000 + number)) for number in range(count))
    return [Volume(phantom.image, phantom.affine) for phantom in drawn]


def fingerprint(labels: np.ndarray) -> str:
    """Hash of a label map's bytes."""
    return hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()


@dataclass
class Record:
    """One request: when it was sent and over, how often it was tried, how it ended.

    `outcome` is ``"ok"``, ``"wrong"`` or the name of the error's class; times are of `time.monotonic`.
    """

    sent_at: float
    retrying: bool
    over_at: float = 0.0
    attempts: int = 1
    outcome: str = ""
    retryable: bool = False
    details: str = ""


@dataclass
class Stream:
    """Callers that each send one volume after the other while the block lasts.

    Parameters
    ----------
    url : gRPC target
    volumes : sent in turn
    expected : fingerprint of each volume's label map
    with_retries, without_retries : how many callers of each kind; the latter show what a service answers
    pause_s : between an answer and the caller's next request
    timeout_s : of one request, retries included
    """

    url: str
    volumes: Sequence[Volume]
    expected: Sequence[str]
    with_retries: int = 1
    without_retries: int = 1
    pause_s: float = 0.3
    timeout_s: float = 120.0
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Stream:
        self.began = time.monotonic()
        for number in range(self.with_retries + self.without_retries):
            retrying = number < self.with_retries
            self._threads.append(threading.Thread(target=self._caller, args=(number, retrying)))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self.ended = time.monotonic()

    def answered(self) -> int:
        """Right answers so far."""
        return sum(record.outcome == "ok" for record in list(self.records))

    def wait_for(self, more: int, timeout_s: float) -> bool:
        """Wait for `more` further right answers; False if they did not come."""
        target, deadline = self.answered() + more, time.monotonic() + timeout_s
        while self.answered() < target:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _caller(self, number: int, retrying: bool) -> None:
        policy = PATIENT if retrying else ONE_ATTEMPT
        with SpineClient(self.url, timeout_s=self.timeout_s, retry=policy) as client:
            while not self._over.is_set():
                number += 1
                record = self._send(client, number % len(self.volumes), retrying)
                self.records.append(record)
                self._over.wait(self.pause_s if record.outcome in ("ok", "wrong") else max(0.5, self.pause_s))

    def _send(self, client: SpineClient, which: int, retrying: bool) -> Record:
        record = Record(time.monotonic(), retrying)

        def count(progress: Progress) -> None:
            record.attempts = max(record.attempts, progress.attempt)

        try:
            result = client.analyze(self.volumes[which], on_progress=count)
            record.outcome = "ok" if fingerprint(result.labels) == self.expected[which] else "wrong"
        except SpineClientError as error:
            record.outcome, record.retryable = type(error).__name__, error.retryable
            record.details = error.message
        record.over_at = time.monotonic()
        return record

    def summary(self) -> dict[str, object]:
        """Counts for the table, callers with and without retries apart."""
        ok = [record for record in self.records if record.outcome == "ok"]
        bad = [record for record in self.records if record.outcome not in ("ok", "wrong")]
        bare = [record for record in bad if not record.retrying]
        lost = [record for record in bad if record.retrying]
        return {
            "sent": len(self.records),
            "answered": len(ok),
            "retried": sum(record.attempts > 1 for record in self.records),
            "failed with retries": len(lost),
            "failed without, retryable": sum(record.retryable for record in bare),
            "failed without, other": sum(not record.retryable for record in bare),
            "wrong": sum(record.outcome == "wrong" for record in self.records),
            "longest gap s": self._longest_gap(ok),
        }

    def failures(self) -> Mapping[str, int]:
        """How often each kind of failure reached a caller."""
        kinds: dict[str, int] = {}
        for record in self.records:
            if record.outcome not in ("ok", "wrong"):
                name = f"{record.outcome}{' (retries)' if record.retrying else ''}: {record.details}"
                kinds[name] = kinds.get(name, 0) + 1
        return kinds

    def _longest_gap(self, ok: Sequence[Record]) -> float:
        moments = sorted([self.began, *(record.over_at for record in ok), self.ended])
        return max(later - earlier for earlier, later in pairwise(moments))
