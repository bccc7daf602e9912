"""API keys from the files of a folder, such as a mounted Kubernetes secret: each file holds one valid key.

Two keys are valid during a rotation simply by being two files. Files are read again when the folder changes,
so a rotation needs no restart.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path

HEADER = "triton-grpc-protocol-api-key"
"""The metadata in which Triton itself expects a key for a restricted protocol."""
MIN_LENGTH = 16
_RECHECK_S = 2.0


class KeyFolderError(ValueError):
    """The folder holds no usable key; the message says what to do and never quotes a key."""


class KeyRing:
    """The keys of a folder.

    Raises
    ------
    KeyFolderError
        At the start: no key, or one that is too short to be safe.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checked_at = time.monotonic()
        self._state = _state(folder)
        self._digests = _read(folder)

    def accepts(self, presented: str | bytes | None) -> bool:
        """Whether `presented` is one of the keys; takes as long for a wrong key as for a right one."""
        self._refresh()
        if presented is None:
            return False
        raw = presented.encode() if isinstance(presented, str) else presented
        digest = hashlib.sha256(raw).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)

    def _refresh(self) -> None:
        if (now := time.monotonic()) - self._checked_at < _RECHECK_S:
            return
        self._checked_at = now
        if (state := _state(self._folder)) != self._state:
            try:
                self._digests = _read(self._folder)
            except KeyFolderError:
                return  # a rotation half done: the old keys stay until the new ones are readable
            self._state = state


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    try:
        return tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in _files(folder))
    except OSError:
        return ()


def _read(folder: Path) -> tuple[bytes, ...]:
    try:
        keys = [path.read_bytes().strip() for path in _files(folder)]
    except OSError as error:
        raise KeyFolderError(f"The key folder {folder} cannot be read ({error.strerror}).") from None
    if not keys:
        raise KeyFolderError(f"The key folder {folder} holds no key; put one key into each file of it.")
    if any(len(key) < MIN_LENGTH for key in keys):
        raise KeyFolderError(f"A key in {folder} has fewer than {MIN_LENGTH} bytes; use a longer random one.")
    return tuple(hashlib.sha256(key).digest() for key in keys)
