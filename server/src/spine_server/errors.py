"""The errors of spine_server, and what to do about each.

ServerError
├── PreconditionError   this machine, the options or the repository cannot serve; `problems` lists what to
mend
├── StartError          Triton was started but died, or never answered; holds Triton's own last words
├── CanaryError         Triton runs, but a whole inference through it failed or came back wrong
└── StopRequested       the start was given up because the caller asked for it
"""

from __future__ import annotations

from collections.abc import Sequence


class ServerError(Exception):
    """Base of everything that spine_server raises on purpose."""


class PreconditionError(ServerError):
    """Something is missing before Triton is even started; one clear sentence each in `problems`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class StartError(ServerError):
    """Triton died or hung while starting."""


class CanaryError(ServerError):
    """The canary volume did not come back as it should."""


class StopRequested(ServerError):  # noqa: N818 - no failure
    """`EmbeddedTriton.request_stop` was called while the server was starting."""
