"""A gate with mutual TLS and keys before the session's server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from reliability.gate_process import GateProcess

from spine_server import EmbeddedTriton

ENTRIES = ("spine_mri", "segmentation")


@dataclass(frozen=True)
class Authority:
    """Who signs certificates, and the folder they are laid out in."""

    ca: trustme.CA
    folder: Path

    def issue(self, name: str, **more: object) -> tuple[bytes, bytes]:
        """Private key and chain for a caller."""
        issued = self.ca.issue_cert(name, **more)
        return issued.private_key_pem.bytes(), b"".join(pem.bytes() for pem in issued.cert_chain_pems)

    def files(self, name: str) -> dict[str, Path]:
        """The same for a server, as files."""
        key, chain = self.issue(name)
        paths = {part: self.folder / f"{name}.{part}" for part in ("crt", "key", "ca")}
        paths["crt"].write_bytes(chain)
        paths["key"].write_bytes(key)
        self.ca.cert_pem.write_to_path(str(paths["ca"]))
        return paths


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the gate trusts."""
    return Authority(trustme.CA(), tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def mutual(server: EmbeddedTriton, authority: Authority) -> Iterator[GateProcess]:
    """The gate as a network should see it: mutual TLS and keys."""
    files = authority.files("localhost")
    tls = [
        "--tls-cert",
        str(files["crt"]),
        "--tls-key",
        str(files["key"]),
        "--tls-client-ca",
        str(files["ca"]),
    ]
    with GateProcess(server.grpc_url, options=tls) as gate:
        yield gate


@pytest.fixture(scope="session")
def plain(server: EmbeddedTriton) -> Iterator[GateProcess]:
    """A gate with keys alone, both entry models named: what is behind the connection is the same."""
    with GateProcess(server.grpc_url, models=ENTRIES) as gate:
        yield gate
