"""The errors of spinecore, and when each is raised.

SpineError
├── InputError      the caller's volume or options are unusable; says what was expected and what came
└── ModelError      a network's files are missing, damaged or do not fit one another

No message ever carries a patient's data, a file path of the server or voxel values.
"""

from __future__ import annotations


class SpineError(Exception):
    """Base of all errors raised on purpose by spinecore."""


class InputError(SpineError):
    """The input is unusable. `code` is stable and machine-readable, e.g. ``"byte_count"``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ModelError(SpineError):
    """A network's files are missing, damaged, or contradict each other."""
