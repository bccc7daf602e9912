"""What the server says about coming back, and how long the SDK then waits."""

from __future__ import annotations

import pytest

from spine_client._refusals import error_from_status
from spine_client.errors import ServerFailed, ServerUnavailable


@pytest.mark.parametrize(
    ("status", "details", "after_s"),
    [
        ("UNAVAILABLE", "[spineserve:busy] Full. [retry_after_s=2.5]", 2.5),
        ("UNAVAILABLE", "in ensemble 'spine_mri', [spineserve:unavailable] Gone. [retry_after_s=2]", 2.0),
        ("UNAVAILABLE", "[spineserve:busy] As many studies as allowed are under way.", None),
        ("UNAVAILABLE", "[request id: 1] Exceeds maximum queue size", 1.0),
        ("INTERNAL", "in ensemble 'spine_mri', Stub process 'segment_0_1' is not healthy.", 2.0),
        ("UNAVAILABLE", "[spineserve:busy] Full. [retry_after_s=999999999999]", None),
    ],
)
def test_a_busy_server_says_when_to_come_back(status: str, details: str, after_s: float | None) -> None:
    error = error_from_status(status, details, "id")
    assert isinstance(error, ServerUnavailable) and error.retryable
    assert error.retry_after_s == after_s
    assert after_s is None or "retry_after" not in str(error)


def test_other_failures_of_the_server_are_not_retried() -> None:
    error = error_from_status("INTERNAL", "in ensemble 'spine_mri', [spineserve:internal] It broke.", "id")
    assert isinstance(error, ServerFailed) and not error.retryable


@pytest.mark.parametrize(
    "details",
    [
        "last error: UNKNOWN: ipv4:10.0.0.1:1: Custom verification check failed with error: UNAUTHENTICATED: "
        "Hostname Verification Check failed.",
        "Ssl handshake failed: SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"
        "CERTIFICATE_VERIFY_FAILED: self signed certificate in certificate chain",
    ],
)
def test_a_certificate_that_is_not_trusted_is_told_as_that(details: str) -> None:
    error = error_from_status("UNAVAILABLE", details, "id")
    assert isinstance(error, ServerUnavailable) and "certificate" in error.message
