"""What the kernel knows of Triton and its stages' processes: it knows at once that one has died.

A dead stage's process stays as a zombie, for Triton never waits for it; a stopped one is neither dead nor at
work. Both show in ``/proc`` a moment later, long before a request has waited in vain.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

_STUB = b"triton_python_backend_stub"
_INSTANCE_ARGUMENT = 8
"""Of a stub's command line: the name of its instance, ``<model>_<group>_<number>``."""
_GONE = "Z"
_HELD = frozenset("Tt")


@dataclass(frozen=True)
class Stub:
    """One process of one model."""

    pid: int
    model: str

    @property
    def state(self) -> str:
        """The kernel's letter for it: ``R`` or ``S`` at work, ``T`` stopped, ``Z`` dead."""
        return process_state(self.pid)

    def kill(self) -> None:
        """End it at once, as the kernel can do with a stopped process too."""
        if self.model in _models_of(_arguments(self.pid)):
            os.kill(self.pid, signal.SIGKILL)


def process_state(pid: int) -> str:
    """The kernel's letter for a process; ``Z`` also where there is none any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return _GONE


def is_dead(state: str) -> bool:
    """Whether a process in this state will never work again."""
    return state in (_GONE, "X")


def is_held(state: str) -> bool:
    """Whether somebody has stopped it (SIGSTOP, a debugger)."""
    return state in _HELD


def stubs_of(triton_pid: int) -> list[Stub]:
    """The living stage processes of a Triton, in the order of their numbers."""
    found = []
    for pid in sorted(_children(triton_pid)):
        for model in _models_of(_arguments(pid)):
            found.append(Stub(pid, model))
    return found


def mapped_files(pid: int, folder: Path) -> set[str]:
    """Names of the files of `folder` that a process has mapped into its memory."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    places = (line.split(maxsplit=5)[5] for line in lines if line.count(" ") > 5 and "/" in line)
    return {Path(place).name for place in places if place.startswith(f"{folder}/")}


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.update(int(child) for child in listing.read_text().split())
        except OSError:  # the thread has ended meanwhile
            continue
    return found


def _arguments(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _models_of(arguments: list[bytes]) -> list[str]:
    """The model a stub works for, or nothing where this is no stub (a zombie has no command line)."""
    if len(arguments) <= _INSTANCE_ARGUMENT or not arguments[0].endswith(_STUB):
        return []
    return [arguments[_INSTANCE_ARGUMENT].decode(errors="replace").rsplit("_", 2)[0]]
