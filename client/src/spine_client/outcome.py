"""What became of one source of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spine_client.errors import SpineClientError
from spine_client.result import SpineResult


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result or error of one source: exactly one of them is set.

    `index` counts the sources from 0 in the order they were given; outcomes come in the order of completion.
    """

    index: int
    source: Any
    result: SpineResult | None = None
    error: SpineClientError | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.result is not None

    def unwrap(self) -> SpineResult:
        """The result. Raises the error if there is none."""
        if self.result is None:
            raise self.error or SpineClientError("there is no result")
        return self.result
