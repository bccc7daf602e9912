"""Channel settings that both clients share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from spine_client.config import Access, Tls
from spine_client.errors import InputError

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),  # gRPC's own retry skips large messages without a word: see Call
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
]
_LOOPBACK = ("127.", "localhost:", "[::1]:")


def channel_options(url: str) -> list[tuple[str, Any]]:
    """gRPC channel arguments for `url`; a proxy is never used on loopback."""
    proxy = [("grpc.enable_http_proxy", 0)] if url.startswith(_LOOPBACK) else []
    return _OPTIONS + proxy


def channel_credentials(tls: Tls | None, access: Access | None) -> Any:
    """Credentials of an encrypted channel, or None for a plain one.

    Raises `InputError` where a secret would go over an unencrypted connection.
    """
    if tls is None:
        if access is not None and access.has_secret and not access.allow_plaintext:
            raise InputError("plaintext_secret", "a key or token needs tls=Tls(…), or allow_plaintext=True")
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(tls.root_certificates),
        private_key=_pem(tls.private_key),
        certificate_chain=_pem(tls.certificate),
    )


def _pem(path: Path | str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError:
        raise InputError("tls_file", "a certificate or key file cannot be read", files=[Path(path)]) from None
