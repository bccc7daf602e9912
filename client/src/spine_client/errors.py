"""Every error the SDK raises on purpose, and what the caller can do about each.

SpineClientError                  base; `.request_id` names the request where there is one
├── InputError                    the source cannot be used; `.code` says why, the message what to do
├── MissingExtra                  an optional dependency is needed: `pip install "spineserve-client[<extra>]"`
├── ServerUnavailable             nothing answered, or the server is starting, draining or full: try later
├── AccessRefused                 the server wants a key, a token or a certificate that it did not get
├── DeadlineExceeded              `timeout_s` ran out, retries included: give more time or a smaller volume
├── RequestRejected               the server looked at the request and refused it; `.code` says why
├── ServerFailed                  the server took the request and broke on it: report the request id
└── ProtocolError                 the answer is not what this version of the SDK understands: align versions

`SpineClientError.retryable` is true where the same request may succeed a little later. The SDK has then
already retried within the deadline. What goes wrong with a PACS comes as the same classes; the message says
so.

No message carries a patient's data, a file name, or the raw text of Triton. An error raised while files
are read keeps their paths in `InputError.files`, which is neither printed nor logged.
"""

# ruff: noqa: N818 - the names say what happened; all end in Error through their base.

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class SpineClientError(Exception):
    """Base of all errors of the SDK. `request_id` is None where no request was made yet."""

    retryable = False

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.message} (request {self.request_id})" if self.request_id else self.message


class InputError(SpineClientError):
    """The source cannot be used. `code` is stable and machine-readable, e.g. ``"missing_slices"``.

    `files` holds the paths concerned, for the caller's own eyes: paths often carry patients' names.
    """

    def __init__(self, code: str, message: str, *, files: Sequence[Path] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.files = tuple(files)


class MissingExtra(SpineClientError, ImportError):
    """A feature needs packages that are not installed. `extra` names the extra that brings them."""

    def __init__(self, extra: str, feature: str) -> None:
        super().__init__(f'{feature} needs more packages: pip install "spineserve-client[{extra}]"')
        self.extra = extra


class ServerUnavailable(SpineClientError):
    """No server answered, or it is starting, draining or full.

    `retry_after_s` is when to come back, where the server said so; the SDK's own retries heed it.
    """

    retryable = True

    def __init__(
        self, message: str, *, request_id: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.retry_after_s = retry_after_s


class AccessRefused(SpineClientError):
    """The server refused the caller: key, token or certificate is missing or wrong."""


class DeadlineExceeded(SpineClientError, TimeoutError):
    """The time given by `timeout_s` ran out before the answer came."""


class RequestRejected(SpineClientError):
    """The server refused the request. `code` is the server's reason, e.g. ``"constant_image"``."""

    def __init__(self, code: str, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code


class ServerFailed(SpineClientError):
    """The server broke while it worked on the request."""


class ProtocolError(SpineClientError):
    """The server's answer does not follow the contract of this SDK version."""
