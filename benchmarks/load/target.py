"""Where a run sends to: addresses, TLS and secrets, in a form that can be handed to the workers' processes.

Secrets themselves are never in it: only the name of an environment variable, or the path of a file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from load.workload import WorkloadError
from spine_client import Access, RetryPolicy, SpineClient, Tls


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server, or several behind one client.

    Attributes
    ----------
    hosts : gRPC targets as `SpineClient` takes them; several ``IP:port`` are used round robin
    api_key_env, api_key_file : where the API key is
    plaintext_key : the key may go over an unencrypted connection
    """

    hosts: tuple[str, ...]
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_name: str | None = None
    use_tls: bool = False
    api_key_env: str | None = None
    api_key_file: str | None = None
    plaintext_key: bool = False

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Target:
        """What `to_json` gave."""
        return cls(**{**content, "hosts": tuple(content["hosts"])})

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return {**asdict(self), "hosts": list(self.hosts)}

    def client(
        self,
        *,
        timeout_s: float,
        attempts: int,
        kind: type[SpineClient] = SpineClient,
        only: str | None = None,
    ) -> SpineClient:
        """A client of all hosts, or of one `only`; `kind` is `SpineClient` or a subclass of it."""
        hosts: Sequence[str] = self.hosts if only is None else (only,)
        return kind(
            hosts[0] if len(hosts) == 1 else hosts,
            timeout_s=timeout_s,
            retry=RetryPolicy(max_attempts=attempts),
            tls=self._tls(),
            access=self._access(),
        )

    def _tls(self) -> Tls | None:
        paths = (self.tls_ca, self.tls_cert, self.tls_key, self.tls_name)
        if not (self.use_tls or any(paths)):
            return None
        ca, certificate, key, name = paths
        return Tls(root_certificates=ca, certificate=certificate, private_key=key, server_name=name)

    def _access(self) -> Access | None:
        key = self._key()
        return None if key is None else Access(api_key=key, allow_plaintext=self.plaintext_key)

    def _key(self) -> str | None:
        if self.api_key_env is not None:
            key = os.environ.get(self.api_key_env)
            if not key:
                raise WorkloadError(f"the environment variable {self.api_key_env} holds no API key")
            return key
        if self.api_key_file is None:
            return None
        try:
            return Path(self.api_key_file).read_text("utf-8").strip()
        except OSError as error:
            raise WorkloadError(f"the file with the API key cannot be read: {error.strerror}") from None
