"""Server credentials from PEM files, read again when they change, as when cert-manager renews them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc


class CertificateFiles:
    """Certificate, key and, for mutual TLS, the authority that signs clients."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._files = [path for path in (certificate, key, client_ca) if path is not None]
        self._mutual = client_ca is not None
        self._loaded = self._stamp()

    def credentials(self) -> Any:
        """gRPC server credentials that ask for the files again at every handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._renewed, require_client_authentication=self._mutual
        )

    def _renewed(self) -> Any:
        """The configuration when a file has changed; None keeps the one in use, as gRPC wants it."""
        try:
            if (stamp := self._stamp()) == self._loaded:
                return None
            configuration = self._configuration()
        except OSError:
            return None
        self._loaded = stamp
        return configuration

    def _configuration(self) -> Any:
        certificate, key, *authority = [path.read_bytes() for path in self._files]
        return grpc.ssl_server_certificate_configuration(
            [(key, certificate)], root_certificates=authority[0] if authority else None
        )

    def _stamp(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns for path in self._files)
