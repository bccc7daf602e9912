"""How an error travels to the client: ``[spineserve:<code>] one sentence``.

Triton carries only a status code and a text, so the machine-readable code stands at the head of the text. The
codes of `spinecore.errors.InputError` go through unchanged; the ones below are added by the stages.
"""

from __future__ import annotations

import re

MODEL = "model"
"""The network's files contradict each other; nothing the caller can change."""
CANCELLED = "cancelled"
"""The caller gave up, or its deadline passed, while the request was worked on."""
OUT_OF_MEMORY = "out_of_memory"
"""The stage could not get the memory it needed."""
UNAVAILABLE = "unavailable"
"""A network that the stage calls does not answer; the supervisor brings it back."""
INTERNAL = "internal"
"""Unexpected; the server's log has the details under the request id."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._:@/+-]")
_MAX_ID_LENGTH = 64


def wire_message(code: str, sentence: str) -> str:
    """The text of an error, on one line."""
    return f"[spineserve:{code}] {' '.join(sentence.split())}"


def with_retry_hint(sentence: str, retry_after_s: float) -> str:
    """A sentence that tells the SDK when to come back."""
    return f"{sentence} [retry_after_s={retry_after_s:g}]"


def safe_request_id(request_id: str) -> str:
    """A request id fit for a log line: it is the caller's text, and may hold anything."""
    return _UNSAFE.sub("_", request_id[:_MAX_ID_LENGTH])
