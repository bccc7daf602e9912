"""What a gRPC status becomes: a typed error, without the server's own text unless it is SpineServe's."""

from __future__ import annotations

import re

from spine_client.errors import (
    AccessRefused,
    DeadlineExceeded,
    RequestRejected,
    ServerFailed,
    ServerUnavailable,
    SpineClientError,
)

_CODED = re.compile(r"\[spineserve:([a-z0-9_]+)\][ \t]*([^\r\n]{0,400})")
_RESTRICTED = "protocol is restricted"
"""Triton refuses a missing API key as UNAVAILABLE with these words."""


_ACCESS = (AccessRefused, "the server refused access; give it the API key or token it asks for")
_STATUS: dict[str, tuple[type[SpineClientError], str]] = {
    "UNAVAILABLE": (
        ServerUnavailable,
        "no server is ready under this address, or it is full; start it or try again later",
    ),
    "NOT_FOUND": (ServerUnavailable, "the server is draining, or does not have the model that was asked for"),
    "DEADLINE_EXCEEDED": (
        DeadlineExceeded,
        "the answer did not come in time; raise timeout_s or send a smaller volume",
    ),
    "UNAUTHENTICATED": _ACCESS,
    "PERMISSION_DENIED": _ACCESS,
}
_REFUSALS = {
    "INVALID_ARGUMENT": "the server refused the request as malformed; align the versions of SDK and server",
    "OUT_OF_RANGE": "the server refused the request as malformed; align the versions of SDK and server",
    "RESOURCE_EXHAUSTED": "the request is larger than the server or a gateway before it lets through",
}


def error_from_status(status: str, details: str, request_id: str | None) -> SpineClientError:
    """The typed error for a gRPC status name and its text. The text is used only where it is SpineServe's."""
    coded = _CODED.search(details)
    if coded:
        return _coded_error(status, coded[1], coded[2].strip(), request_id)
    if status == "UNAVAILABLE" and _RESTRICTED in details:
        status = "PERMISSION_DENIED"
    if status in _REFUSALS:
        return RequestRejected(status.lower(), _REFUSALS[status], request_id=request_id)
    kind, message = _STATUS.get(
        status,
        (ServerFailed, f"the server failed on the request ({status}); give this id to whoever runs it"),
    )
    return kind(message, request_id=request_id)


def _coded_error(status: str, code: str, sentence: str, request_id: str | None) -> SpineClientError:
    if status == "UNAVAILABLE":
        return ServerUnavailable(sentence, request_id=request_id)
    if code in ("internal", "model", "out_of_memory"):
        return ServerFailed(sentence, request_id=request_id)
    if code in ("cancelled", "deadline"):
        return DeadlineExceeded(sentence, request_id=request_id)
    return RequestRejected(code, sentence, request_id=request_id)
