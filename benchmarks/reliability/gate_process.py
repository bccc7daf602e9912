"""The gate as a process of its own, in front of a server on this machine."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HEADER = "triton-grpc-protocol-api-key"


class GateProcess:
    """``python -m spine_server.gate`` on free loopback ports, with what `options` say.

    Parameters
    ----------
    triton : ``host:port`` of Triton
    models : what callers may use
    options : further ones of the gate, e.g. ``["--tls-cert", "…"]``
    asks_for_key : the key is `key`
    """

    def __init__(
        self,
        triton: str,
        *,
        models: Sequence[str] = ("spine_mri",),
        options: Sequence[str] = (),
        asks_for_key: bool = True,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gate-")
        self.keys = Path(self._folder.name)
        self.key = secrets.token_hex(16)
        (self.keys / "current").write_text(self.key)
        words = ["--listen", "127.0.0.1:0", "--triton", triton, "--status-port", "0"]
        words += ["--api-keys", str(self.keys)] if asks_for_key else []
        for model in models:
            words += ["--model", model]
        command = [sys.executable, "-m", "spine_server.gate", *words, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        ports = re.search(r"grpc port (\d+), status port (\d+)", first)
        if ports is None:
            self.close()
            raise RuntimeError(f"The gate did not start: {first}")
        self.port, self.status_port = int(ports[1]), int(ports[2])

    def metadata(self, key: str | None = None) -> tuple[tuple[str, str], ...]:
        """gRPC metadata with a key, the gate's own by default."""
        return ((HEADER, key or self.key),)

    def close(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self._folder.cleanup()

    def __enter__(self) -> GateProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
