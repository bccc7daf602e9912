"""One name per server run, under which everything it leaves outside itself is found again.

A killed Triton leaves its shared memory regions in /dev/shm and its run folder behind. Each run therefore
takes a token, names both by it, and holds a lock on ``/dev/shm/spineserve-<token>.lock`` that Triton and its
stubs inherit: the lock falls only when the last of them is gone, and then, and only then, the next server
clears up. Locks work between containers that share /dev/shm, where comparing process numbers would not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "spineserve-"


class RunToken:
    """The name and the lock of one server run; `release` removes everything that bears the name."""

    def __init__(self) -> None:
        self.name = f"{PREFIX}{secrets.token_hex(4)}"
        self.run_folder = _run_folder(self.name)
        self.lock_fd = self._lock()
        self.run_folder.mkdir(mode=0o700)

    def _lock(self) -> int:
        # Locked under another name first: nobody may see the lock file before it is locked.
        path = SHARED_MEMORY / f"{self.name}.lock"
        hidden = path.with_name(f".{path.name}")
        descriptor = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        hidden.rename(path)
        return descriptor

    def close_to_others(self) -> None:
        """Let no other user read the stages' shared memory: images pass through it.

        Triton creates the regions readable by all, whatever the umask, when a stage is loaded, before any
        request.
        """
        for region in SHARED_MEMORY.glob(f"{self.name}*"):
            with contextlib.suppress(FileNotFoundError):  # a model loaded anew may just have let go of it
                region.chmod(0o600)

    def remove_regions_but(self, used: Collection[str]) -> None:
        """Remove the regions of this run whose names are not among `used`: their stages are gone."""
        for region in SHARED_MEMORY.glob(f"{self.name}*"):
            if region.name not in used and region.suffix != ".lock":
                region.unlink(missing_ok=True)

    def release(self) -> None:
        """Remove the shared memory, the run folder and the lock of this run. Triton must be gone."""
        _remove(self.name)
        os.close(self.lock_fd)


def remove_leftovers() -> list[str]:
    """Clear up after runs of which no process is left; the names of those runs."""
    dead = [path.stem for path in SHARED_MEMORY.glob(f"{PREFIX}*.lock") if _is_dead(path)]
    for name in dead:
        _remove(name)
    return dead


def _is_dead(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:  # gone meanwhile, or another user's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _remove(name: str) -> None:
    shutil.rmtree(_run_folder(name), ignore_errors=True)
    lock = SHARED_MEMORY / f"{name}.lock"
    for region in SHARED_MEMORY.glob(f"{name}*"):
        if region != lock:
            region.unlink(missing_ok=True)
    lock.unlink(missing_ok=True)


def _run_folder(name: str) -> Path:
    return Path(tempfile.gettempdir()) / name
