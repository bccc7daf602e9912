"""Whether anyone still waits, as the stages tell one another."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from spine_server.callers import Callers


@pytest.fixture
def callers(tmp_path: Path) -> Callers:
    return Callers(tmp_path)


def test_a_caller_waits_until_its_time_is_over(callers: Callers) -> None:
    callers.expects("a", 50_000)
    assert not callers.gave_up("a")
    time.sleep(0.1)
    assert callers.gave_up("a")


def test_a_caller_without_a_limit_waits_until_it_leaves(callers: Callers) -> None:
    callers.expects("a", 0)
    assert not callers.gave_up("a")
    assert callers.left("a")
    assert callers.gave_up("a")


def test_another_stage_sees_the_same(tmp_path: Path) -> None:
    Callers(tmp_path).expects("a", 0)
    assert Callers(tmp_path).left("a")
    assert Callers(tmp_path).gave_up("a")


def test_a_new_attempt_is_not_cancelled_by_what_ended_the_one_before(callers: Callers) -> None:
    callers.expects("a", 0)
    callers.left("a")
    callers.expects("a", 0)
    assert not callers.gave_up("a")


def test_nobody_can_strike_out_what_is_not_there(callers: Callers) -> None:
    assert not callers.left("unknown") and not callers.gave_up("unknown")
    assert not callers.left("") and not callers.gave_up("")
    callers.expects("../../a", 0)
    assert callers.left("../../a")
    assert {path.name for path in callers.folder.iterdir()} == {"requests"}


def test_notes_of_answered_and_of_forgotten_requests_go(callers: Callers) -> None:
    callers.expects("answered", 0)
    callers.done("answered")
    callers.expects("forgotten", 0)
    (note,) = (callers.folder / "requests").iterdir()
    os.utime(note, (0, 0))
    callers.expects("new", 0)
    assert [path.name for path in (callers.folder / "requests").iterdir()] == ["new"]
