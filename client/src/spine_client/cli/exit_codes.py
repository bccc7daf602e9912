"""Exit codes of `spine`, one per thing a script may want to do about a failure.

====  ==========================================================================
0     done
1     unexpected failure: a defect of the SDK (SPINE_TRACEBACK=1 shows where)
2     wrong usage, or an optional package is missing (pip says which extra)
3     the source cannot be used (`InputError`)
4     no server ready: try again later (`ServerUnavailable`), or `health` says no
5     the time ran out (`DeadlineExceeded`)
6     the server refused the request (`RequestRejected`)
7     the server failed, or answers another protocol (`ServerFailed`, `ProtocolError`)
8     access refused (`AccessRefused`)
9     `batch` went through, but some studies failed: the summary says which
130   interrupted with Ctrl-C; the request was cancelled
====  ==========================================================================
"""

from __future__ import annotations

from spine_client.errors import (
    AccessRefused,
    DeadlineExceeded,
    InputError,
    MissingExtra,
    ProtocolError,
    RequestRejected,
    ServerFailed,
    ServerUnavailable,
    SpineClientError,
)

DONE = 0
FAILED = 1
USAGE = 2
UNAVAILABLE = 4
SOME_FAILED = 9
INTERRUPTED = 130

_CODES: dict[type[SpineClientError], int] = {
    MissingExtra: USAGE,
    InputError: 3,
    ServerUnavailable: UNAVAILABLE,
    DeadlineExceeded: 5,
    RequestRejected: 6,
    ServerFailed: 7,
    ProtocolError: 7,
    AccessRefused: 8,
}


def exit_code(error: SpineClientError) -> int:
    """Exit code for an error."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), FAILED)
