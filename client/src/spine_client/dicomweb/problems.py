"""What goes wrong between the SDK and a PACS, as the errors of this SDK, without addresses or UIDs."""

from __future__ import annotations

import requests
from pydicom.errors import InvalidDicomError
from urllib3.exceptions import ReadTimeoutError

from spine_client.errors import (
    AccessRefused,
    DeadlineExceeded,
    InputError,
    ProtocolError,
    ServerFailed,
    ServerUnavailable,
    SpineClientError,
)

_TRY_LATER = (408, 429, 502, 503, 504)


def error_from(problem: Exception) -> SpineClientError:
    """The error to raise for an exception of requests, dicomweb_client or pydicom."""
    if isinstance(problem, requests.HTTPError) and problem.response is not None:
        return _from_status(problem.response.status_code)
    if isinstance(problem, requests.exceptions.SSLError):
        return AccessRefused("no trusted connection to the PACS; give its root certificate with tls=Tls(…)")
    if isinstance(problem, requests.exceptions.ReadTimeout) or _broke_waiting(problem):
        return took_too_long()
    if isinstance(problem, (requests.ConnectionError, requests.Timeout)):
        return ServerUnavailable("no PACS answers at the address given")
    if isinstance(problem, requests.exceptions.ChunkedEncodingError):
        return ServerUnavailable("the connection to the PACS broke off")
    if isinstance(problem, InvalidDicomError):
        return ProtocolError("the PACS sent something that is not DICOM")
    return ProtocolError("the address given does not answer as DICOMweb (PS3.18) says")


def _broke_waiting(problem: Exception) -> bool:
    """A read that timed out within the body comes as a ConnectionError from requests."""
    return isinstance(problem, requests.ConnectionError) and any(
        isinstance(reason, ReadTimeoutError) for reason in problem.args
    )


def took_too_long() -> DeadlineExceeded:
    """The time for the PACS ran out."""
    return DeadlineExceeded("the PACS took too long; give more time or a smaller series")


def _from_status(status: int) -> SpineClientError:
    if status in (401, 403, 407):
        return AccessRefused(f"the PACS refused access (HTTP {status}): the key or token is missing or wrong")
    if status in (404, 410):
        return InputError(
            "no_such_series", "the PACS does not have what was asked for, or at another address"
        )
    if status in _TRY_LATER:
        return ServerUnavailable(f"the PACS is overloaded or starting (HTTP {status})")
    if status == 409:
        return ServerFailed("the PACS refused to store the objects (HTTP 409)")
    if status == 413:
        return ServerFailed("the PACS refused objects of this size (HTTP 413); raise its limit")
    if status < 500:
        return ProtocolError(f"the PACS does not take this kind of request (HTTP {status})")
    return ServerFailed(f"the PACS failed (HTTP {status})")
