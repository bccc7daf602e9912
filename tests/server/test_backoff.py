"""Waiting before the next attempt, worked out by hand."""

from __future__ import annotations

from spine_server.backoff import CALM_S, LONGEST_PAUSE_S, Backoff


def test_pauses_double_after_the_first_failure_up_to_a_minute() -> None:
    backoff = Backoff(20, clock=lambda: 0.0)
    pauses = []
    for _ in range(10):
        backoff.failed()
        pauses.append(backoff.pause_s)
    assert pauses[:5] == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert pauses[-1] == LONGEST_PAUSE_S == max(pauses)


def test_it_is_exhausted_by_more_failures_than_allowed_and_not_before() -> None:
    backoff = Backoff(2, clock=lambda: 0.0)
    seen = []
    for _ in range(3):
        backoff.failed()
        seen.append(backoff.exhausted)
    assert seen == [False, False, True]


def test_failures_of_long_ago_do_not_count() -> None:
    now = [0.0]
    backoff = Backoff(1, clock=lambda: now[0])
    backoff.failed()
    now[0] = CALM_S + 1.0
    backoff.failed()
    assert backoff.failures == 1 and not backoff.exhausted and backoff.pause_s == 0.0
