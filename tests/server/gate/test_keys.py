"""Keys from a folder: what is accepted, and what keeps the gate from starting."""

from __future__ import annotations

from pathlib import Path

import pytest

from spine_server.gate import keys
from spine_server.gate.keys import KeyFolderError, KeyRing

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one key, looked at anew for every request."""
    monkeypatch.setattr(keys, "_RECHECK_S", 0.0)
    (tmp_path / "a").write_text(FIRST + "\n")
    return tmp_path


def test_only_a_whole_key_is_accepted(folder: Path) -> None:
    ring = KeyRing(folder)
    assert ring.accepts(FIRST) and ring.accepts(FIRST.encode())
    for wrong in (None, "", FIRST[:-1], FIRST + "x", FIRST.upper(), SECOND):
        assert not ring.accepts(wrong)


def test_a_rotation_takes_effect_without_a_restart(folder: Path) -> None:
    ring = KeyRing(folder)
    (folder / "b").write_text(SECOND)
    assert ring.accepts(FIRST) and ring.accepts(SECOND)
    (folder / "a").unlink()
    assert not ring.accepts(FIRST) and ring.accepts(SECOND)


def test_a_half_done_rotation_keeps_the_old_keys(folder: Path) -> None:
    ring = KeyRing(folder)
    (folder / "a").write_text("short")
    assert ring.accepts(FIRST)
    (folder / "a").unlink()
    assert ring.accepts(FIRST)


def test_a_mounted_secret_is_read_through_its_links(tmp_path: Path) -> None:
    """Kubernetes mounts a dated folder, a link ..data to it, and a link per key."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "a").write_text(FIRST)
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a").symlink_to("..data/a")
    assert KeyRing(tmp_path).accepts(FIRST)


@pytest.mark.parametrize("content", [None, "", "0123456789abcde"])
def test_no_key_or_a_weak_one_keeps_the_gate_from_starting(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "a").write_text(content)
    with pytest.raises(KeyFolderError) as caught:
        KeyRing(tmp_path)
    assert not content or content not in str(caught.value)
