"""How the client connects, proves who calls, and retries. All defaults of timing live here."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DEFAULT_URL = "127.0.0.1:8001"
DEFAULT_TIMEOUT_S = 300.0
HEALTH_TIMEOUT_S = 10.0
DEEP_HEALTH_TIMEOUT_S = 60.0
LEAVING_TIMEOUT_S = 1.0
"""For telling the server that a caller has left."""


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When the server is unavailable, try again after a random pause (full jitter), inside the deadline.

    =======================================  =====================================================
    ``RetryPolicy()``                        4 attempts, pauses of up to 0.4, 0.8, 1.6 s
    ``RetryPolicy(max_attempts=1)``          never retry
    ``RetryPolicy(max_attempts=12,           ride out a restart of the server
    max_pause_s=8)``
    =======================================  =====================================================

    Only refusals that happen before work is done, or that end it without effect, are retried; bad input,
    refused access and failures of the server are not. Where a busy server says when to come back, the pause
    is added to that. Every attempt carries the same request id.
    """

    max_attempts: int = 4
    first_pause_s: float = 0.4
    max_pause_s: float = 8.0

    def pause_s(self, attempt: int) -> float:
        """Random pause after failed attempt number `attempt` (from 1)."""
        longest = min(self.max_pause_s, self.first_pause_s * 2.0 ** (attempt - 1))
        return random.uniform(0.0, longest)


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Encrypted connection. Paths to PEM files; `certificate` and `private_key` together make it mutual TLS.

    `root_certificates` None trusts the roots that gRPC brings along. `server_name` is the name to expect in
    the server's certificate where the address does not say it: several IP addresses, a forwarded port.
    """

    root_certificates: Path | str | None = None
    certificate: Path | str | None = None
    private_key: Path | str | None = None
    server_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Access:
    """What proves to the server who calls; a callable is asked anew for every attempt.

    `api_key` goes to Triton's restricted protocols, `bearer_token` to a gateway in front of it. Both are
    refused over an unencrypted connection unless `allow_plaintext` is set.
    """

    api_key: str | Callable[[], str] | None = None
    bearer_token: str | Callable[[], str] | None = None
    allow_plaintext: bool = False

    @property
    def has_secret(self) -> bool:
        """Whether there is anything to keep from an unencrypted connection."""
        return self.api_key is not None or self.bearer_token is not None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """gRPC metadata of one attempt."""
        headers = []
        if self.api_key is not None:
            headers.append(("triton-grpc-protocol-api-key", _value(self.api_key)))
        if self.bearer_token is not None:
            headers.append(("authorization", f"Bearer {_value(self.bearer_token)}"))
        return tuple(headers)

    def __repr__(self) -> str:
        return "Access(…)"


def _value(secret: str | Callable[[], str]) -> str:
    return secret if isinstance(secret, str) else secret()
