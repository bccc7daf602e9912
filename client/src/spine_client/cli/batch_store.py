"""The output folder of `spine batch`: each thing in it is there completely, or not at all.

Everything is written under a name that begins with `PARTIAL`, forced to the disk, and moved into place. The
file system moves in one step, so a process that is killed at any moment leaves the whole or nothing. What it
leaves under the hidden name is removed by the next run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from spine_client.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: two runs at once into one folder are the caller's to avoid
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial-"
MARKER = "report.json"
"""A study's folder that holds this file is finished."""


class BatchStore:
    """An output folder, held by one process at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, keep other runs out of it, and clear away what a killed one left half done.

        Raises `InputError` ``output`` if it cannot be made, ``output_busy`` if another run holds it.
        """
        descriptor = self._open()
        try:
            self._lock(descriptor)
            for leftover in self.directory.glob(f"{PARTIAL}*"):
                _remove(leftover)
            yield
        finally:
            os.close(descriptor)  # and with it falls the lock

    def is_done(self, name: str) -> bool:
        """Whether the study `name` was finished, in this run or an earlier one."""
        return (self.directory / name / MARKER).is_file()

    def put(self, name: str, write: Callable[[Path], object]) -> None:
        """Let `write` fill a file or a folder aside, then move it to `name`, in place of what was there.

        Raises `OSError` where that cannot be written; nothing of it then stays.
        """
        partial, final = self.directory / f"{PARTIAL}{name}", self.directory / name
        try:
            write(partial)
            _force_to_disk(partial)
            if final.is_dir():
                shutil.rmtree(final)
            partial.replace(final)
        except BaseException:
            _remove(partial)
            raise
        _force_to_disk(self.directory, within=False)

    def _open(self) -> int:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            return os.open(self.directory, os.O_RDONLY)
        except OSError as error:
            raise unwritable(self.directory, error) from None

    def _lock(self, descriptor: int) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "output_busy",
                "another `spine batch` writes into this folder; let it finish, or take another --out",
                files=[self.directory],
            ) from None


def unwritable(directory: Path, error: OSError) -> InputError:
    """The error for results that cannot be written."""
    return InputError("output", f"the results cannot be written: {error.strerror}", files=[directory])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _force_to_disk(path: Path, *, within: bool = True) -> None:
    """fsync: after a power cut, too, a name that was moved into place has its whole content."""
    if within and path.is_dir():
        for item in path.iterdir():
            _force_to_disk(item)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
