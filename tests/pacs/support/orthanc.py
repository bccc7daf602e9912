"""A real Orthanc with its DICOMweb plugin, started for the tests on loopback and taken away after them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "tester", "open sesame"
_START_S, _STOP_S = 60.0, 20.0


def missing() -> str | None:
    """Why there can be no Orthanc on this machine; None if there can."""
    if shutil.which("Orthanc") is None:
        return "Orthanc is not installed: run `make test-pacs`, or apt-get install orthanc orthanc-dicomweb"
    return (
        None if PLUGIN.is_file() else f"Orthanc has no DICOMweb: apt-get install orthanc-dicomweb ({PLUGIN})"
    )


@dataclass(frozen=True)
class Orthanc:
    """A running server."""

    root: str
    """Of DICOMweb: ``http://127.0.0.1:port/dicom-web``."""
    port: int
    log: Path


@contextmanager
def orthanc(folder: Path, *, password: str) -> Iterator[Orthanc]:
    """An empty Orthanc with its database in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(_settings(folder, port, password)))
    log = folder / "orthanc.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(["Orthanc", str(settings)], stdout=stream, stderr=subprocess.STDOUT)
    try:
        _wait_until_it_listens(process, port, log)
        yield Orthanc(f"http://127.0.0.1:{port}/dicom-web", port, log)
    finally:
        process.terminate()
        process.wait(_STOP_S)


def _settings(folder: Path, port: int, password: str) -> dict[str, Any]:
    return {
        "Name": "tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "DicomServerEnabled": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: password},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
    }


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"Orthanc did not start:\n{log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
