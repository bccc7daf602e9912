"""Channel settings that both clients share."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc

from spine_client.config import Access, Tls
from spine_client.errors import InputError

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),  # gRPC's own retry skips large messages without a word: see Call
    # A server that hangs, or a network that is cut, is noticed within 20 s, and the request tried elsewhere.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 5000),  # so long may a handshake take, far away or with a busy server
    ("grpc.max_reconnect_backoff_ms", 2000),
    # When a pod leaves, its successor's address is asked for at once, not up to 30 s later.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
]
_LOOPBACK = ("127.", "localhost:", "[::1]:")


def channel_target(url: str | Sequence[str], tls: Tls | None) -> str:
    """The gRPC target of one address, or of several IP addresses with ports."""
    addresses = [url] if isinstance(url, str) else list(url)
    if len(addresses) == 1:
        if addresses[0].startswith(("ipv4:", "ipv6:")) and "," in addresses[0]:
            _require_server_name(tls)
        return addresses[0]
    kinds = {_ip_version(address) for address in addresses}
    if len(kinds) != 1 or kinds == {None}:
        raise InputError(
            "url",
            "several addresses are given as IP:port, all IPv4 or all IPv6; for a name use dns:///name:port, "
            "which finds all addresses behind it",
        )
    _require_server_name(tls)
    return f"ipv{kinds.pop()}:{','.join(addresses)}"


def _require_server_name(tls: Tls | None) -> None:
    """gRPC holds a certificate to the whole list as if it were one name, which no certificate has."""
    if tls is not None and tls.server_name is None:
        raise InputError("url", "several IP addresses with TLS need Tls(server_name=…)")


def _ip_version(address: str) -> int | None:
    host, _, port = address.rpartition(":")
    try:
        return ip_address(host.strip("[]")).version if port.isdigit() else None
    except ValueError:
        return None


def channel_options(target: str, tls: Tls | None) -> list[tuple[str, Any]]:
    """gRPC channel arguments for `target`; a proxy is never used on loopback."""
    options = list(_OPTIONS)
    if target.removeprefix("ipv4:").startswith(_LOOPBACK):
        options.append(("grpc.enable_http_proxy", 0))
    if tls is not None and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


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
