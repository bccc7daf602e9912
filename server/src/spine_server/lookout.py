"""Canaries from a thread of their own: one that waits for a busy model keeps nobody from noticing a death."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from spine_server.options import SupervisionOptions
from spine_server.probe import Record, look

SERVER = ""
"""The name under which a look tells of Triton itself."""
_MISSED_LOOKS = 3
"""Looks in a row that find no answer from Triton itself, before it counts as dead."""


class Lookout:
    """Looks at the models of one Triton that have answered nobody since the last look; the first in a while.

    Parameters
    ----------
    url : ``host:port`` of its gRPC
    models : the stages, networks before the stages that wait for them
    """

    def __init__(self, url: str, models: Sequence[str], options: SupervisionOptions) -> None:
        self._url, self._models, self._options = url, models, options
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lookout")
        self._records: dict[str, Record] = {}
        self._look: Future[dict[str, str]] | None = None
        self._outdated = False
        self._missed = 0
        self._next = time.monotonic() + options.canary_interval_s

    def poll(self) -> dict[str, str]:
        """What a look that has ended meanwhile found, by model (`SERVER`: Triton itself); starts the next."""
        if self._look is None:
            if time.monotonic() >= self._next:
                self._look = self._pool.submit(self._look_around)
            return {}
        if not self._look.done():
            return {}
        found, self._look = self._look.result(), None
        return self._taken_in(found)

    def start_over(self) -> None:
        """A model was loaded anew: look at all again, and forget what is being looked at now."""
        self._outdated = self._look is not None
        self._next = time.monotonic()

    def at(self, model: str) -> str | None:
        """Why `model` cannot work now, or None."""
        found = self._look_at(model, records={})
        return next(iter(found.values()), None)

    def close(self) -> None:
        """No further look."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _taken_in(self, found: dict[str, str]) -> dict[str, str]:
        outdated, self._outdated = self._outdated, False
        again_at_once = outdated or SERVER in found
        self._next = time.monotonic() + (0.0 if again_at_once else self._options.canary_interval_s)
        if outdated:
            return {}
        self._missed = self._missed + 1 if SERVER in found else 0
        return found if SERVER not in found or self._missed >= _MISSED_LOOKS else {}

    def _look_around(self) -> dict[str, str]:
        for model in self._models:
            if found := self._look_at(model, records=self._records):
                return found
        return {}

    def _look_at(self, model: str, *, records: dict[str, Record]) -> dict[str, str]:
        return look(
            self._url,
            models=[model],
            records=records,
            timeout_s=self._options.knock_timeout_s,
            hung_after_s=self._options.hung_after_s,
        )
