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
_RETRY_AFTER = re.compile(r"\s*\[retry_after_s=(\d{1,4}(?:\.\d{1,3})?)\]")
"""How a server that is busy says when to come back, at the end of its sentence."""
_FULL = "Exceeds maximum queue size"
"""Triton's own words for a full queue, which can carry no hint of ours."""
_FULL_PAUSE_S = 1.0
_DEAD_STAGE = ("Stub process", "is not healthy")
"""Triton's words, under INTERNAL, where a stage's process has died; it is brought back in seconds."""
_DEAD_STAGE_PAUSE_S = 2.0
_RESTRICTED = "protocol is restricted"
"""Triton refuses a missing API key as UNAVAILABLE with these words."""
_UNTRUSTED = ("Hostname Verification Check failed", "CERTIFICATE_VERIFY_FAILED")
"""gRPC's words, under UNAVAILABLE, where we do not take the server's certificate for that of the server."""

_ACCESS = (AccessRefused, "the server refused access; give it the API key or token it asks for")
_STATUS: dict[str, tuple[type[SpineClientError], str]] = {
    "UNAVAILABLE": (
        ServerUnavailable,
        "no server is ready under this address, or it is full; start it or try again later",
    ),
    "NOT_FOUND": (ServerUnavailable, "the server is draining, or does not have the model that was asked for"),
    "CANCELLED": (
        ServerUnavailable,
        "the server let the request go, as one that stops does; try again later",
    ),
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
    if status == "UNAVAILABLE" and any(words in details for words in _UNTRUSTED):
        message = "the server's certificate is of no trusted authority, or not for this address; see Tls"
        return ServerUnavailable(message, request_id=request_id)
    if status == "UNAVAILABLE" and _FULL in details:
        return ServerUnavailable("the server is full", request_id=request_id, retry_after_s=_FULL_PAUSE_S)
    if status == "INTERNAL" and all(words in details for words in _DEAD_STAGE):
        message = "a part of the server has died and is being brought back"
        return ServerUnavailable(message, request_id=request_id, retry_after_s=_DEAD_STAGE_PAUSE_S)
    if status in _REFUSALS:
        return RequestRejected(status.lower(), _REFUSALS[status], request_id=request_id)
    kind, message = _STATUS.get(
        status,
        (ServerFailed, f"the server failed on the request ({status}); give this id to whoever runs it"),
    )
    return kind(message, request_id=request_id)


def _coded_error(status: str, code: str, sentence: str, request_id: str | None) -> SpineClientError:
    if status == "UNAVAILABLE":
        hint = _RETRY_AFTER.search(sentence)
        after_s = float(hint[1]) if hint else None
        return ServerUnavailable(_RETRY_AFTER.sub("", sentence), request_id=request_id, retry_after_s=after_s)
    if code in ("internal", "model", "out_of_memory"):
        return ServerFailed(sentence, request_id=request_id)
    if code in ("cancelled", "deadline"):
        return DeadlineExceeded(sentence, request_id=request_id)
    return RequestRejected(code, sentence, request_id=request_id)
