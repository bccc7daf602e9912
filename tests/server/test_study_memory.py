"""A study's share of the memory."""

from __future__ import annotations

import os

import pytest

from spine_server.study_memory import STUDIES_AT_ONCE, VARIABLE, study_memory_bytes


def test_all_studies_at_once_fit_into_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < STUDIES_AT_ONCE * study_memory_bytes() < total


def test_the_share_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "100")
    assert study_memory_bytes() == 100 * 2**20
    monkeypatch.setenv(VARIABLE, "much")
    assert study_memory_bytes() != 0
