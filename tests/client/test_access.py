"""Keys, tokens and encryption."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
from fake_triton import FakeTriton, start

from spine_client import Access, SpineClient, Tls, Volume
from spine_client.errors import InputError, ServerUnavailable


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key of 127.0.0.1, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run(
        [*command, *names, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True
    )
    return cert, key


@pytest.fixture
def secure_server(certificate):
    """A fake Triton behind TLS that asks for a client certificate."""
    cert, key = (path.read_bytes() for path in certificate)
    credentials = grpc.ssl_server_credentials([(key, cert)], root_certificates=cert, require_client_auth=True)
    servicer = FakeTriton()
    server, port = start(servicer, credentials)
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None)


def test_mutual_tls_with_key_and_token(secure_server, certificate, volume: Volume) -> None:
    servicer, url = secure_server
    cert, key = certificate
    tls = Tls(root_certificates=cert, certificate=cert, private_key=key)
    tokens = iter(["first", "second"])
    access = Access(api_key="k-123", bearer_token=lambda: next(tokens))
    with SpineClient(url, tls=tls, access=access) as client:
        client.analyze(volume)
        client.analyze(volume)
    assert [m["authorization"] for m in servicer.metadata] == ["Bearer first", "Bearer second"]
    assert servicer.metadata[0]["triton-grpc-protocol-api-key"] == "k-123"


def test_untrusted_server_gets_nothing(secure_server, volume: Volume) -> None:
    servicer, url = secure_server
    with SpineClient(url, tls=Tls()) as client, pytest.raises(ServerUnavailable):
        client.analyze(volume, timeout_s=3)
    assert servicer.requests == []


def test_secret_is_not_sent_in_plaintext_unless_allowed(serve, volume: Volume) -> None:
    with pytest.raises(InputError) as caught:
        SpineClient("127.0.0.1:1", access=Access(api_key="k"))
    assert caught.value.code == "plaintext_secret"
    servicer, client = serve(access=Access(api_key="k", allow_plaintext=True))
    client.analyze(volume)
    assert servicer.metadata[0]["triton-grpc-protocol-api-key"] == "k"


def test_secret_does_not_show_in_repr() -> None:
    assert "k-123" not in repr(Access(api_key="k-123"))


def test_missing_certificate_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        SpineClient("127.0.0.1:1", tls=Tls(root_certificates=tmp_path / "none.pem"))
    assert caught.value.code == "tls_file"
