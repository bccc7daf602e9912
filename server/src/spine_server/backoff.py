"""How long to wait before the next attempt of something that keeps failing, and when to give up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
CALM_S = 300.0
"""A failure longer ago than this says nothing about the next attempt."""


class Backoff:
    """Counts failures: the first is followed at once by an attempt, the next ones after 1, 2, 4 … 60 s.

    Parameters
    ----------
    most : failures within `CALM_S` after which there is no further attempt
    clock : seconds, of `time.monotonic`
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._failures: deque[float] = deque()

    def failed(self) -> None:
        """Count one failure, now."""
        self._failures.append(self._clock())

    @property
    def failures(self) -> int:
        """Failures that still count."""
        while self._failures and self._clock() - self._failures[0] > CALM_S:
            self._failures.popleft()
        return len(self._failures)

    @property
    def exhausted(self) -> bool:
        """Whether there should be no further attempt."""
        return self.failures > self._most

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next attempt."""
        if self.failures <= 1:
            return 0.0
        return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (self.failures - 2)))
