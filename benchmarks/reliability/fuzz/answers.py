"""What a clean answer to a broken request is."""

from __future__ import annotations

import re
from typing import Any

import grpc

DOCUMENTED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)
"""The kinds an error may be of; INTERNAL and UNKNOWN mean that something broke."""
NEIGHBOUR = "neighbour-7f3a9c"
"""In the id of every good request that runs beside: it may appear in no other request's answer."""
_TELLTALE = re.compile(
    r"Traceback|File \"|\.py\b|\.cc\b|\.hpp?\b|(?<![\w.:])/[a-z][a-z0-9]*/[\w.-]|site-packages"
    r"|0x[0-9a-fA-F]{6,}|std::|" + NEIGHBOUR
)
MAX_DETAILS = 4096
_UNPARSED = "Unable to parse request"
"""gRPC's own INTERNAL for a message that is no protobuf of the method's kind: no code of ours has seen it."""


def complaint(error: Any, *, sent: str = "") -> str | None:
    """Why an error is not clean, or None if it is. `sent` is text of the request: its echo is no leak."""
    code, details = error.code(), str(error.details() or "")
    if code is grpc.StatusCode.INTERNAL and details == _UNPARSED:
        return None
    if code not in DOCUMENTED:
        return f"{code.name}: {details[:200]}"
    if (found := _TELLTALE.search(details)) and found[0] not in sent:
        return f"{code.name} tells {found[0]!r}: {details[:200]}"
    if len(details) > MAX_DETAILS + len(sent):  # a name of 5,000 letters may come back once
        return f"{code.name} with {len(details)} characters"
    return None
