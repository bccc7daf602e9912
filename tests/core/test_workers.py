"""Parts of a volume on threads."""

from __future__ import annotations

import threading

import pytest

from spinecore import workers


def test_every_part_is_worked_on_once_and_several_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "thread_count", lambda: 2)
    workers._pool.cache_clear()
    together, seen = threading.Barrier(2, timeout=10), []

    def work(part: int) -> None:
        together.wait()  # passes only where two parts are worked on at the same time
        seen.append(part)

    workers.for_each(work, range(6))
    assert sorted(seen) == list(range(6))
    workers._pool.cache_clear()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_error_is_raised_when_all_parts_have_ended(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(workers, "thread_count", lambda: threads)
    seen = []

    def work(part: int) -> None:
        seen.append(part)
        if part in (1, 2):
            raise ValueError(part)

    with pytest.raises(ValueError, match="1"):
        workers.for_each(work, range(4))
    assert seen == [0, 1] if threads == 1 else sorted(seen) == [0, 1, 2, 3]
