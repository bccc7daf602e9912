"""Fixtures of the tests with a real PACS; skipped, with the reason, where Orthanc is not installed."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))
sys.path.insert(0, str(Path(__file__).parents[1] / "client" / "support"))

from orthanc import PASSWORD, USER, Orthanc, missing, orthanc

from spine_client import Pacs
from spinecore.phantom import Phantom
from spinecore.phantom.io import write_dicom

BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.fixture(scope="session", autouse=True)
def _orthanc_is_there() -> None:
    if reason := missing():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, _orthanc_is_there: None) -> Iterator[Orthanc]:
    """An Orthanc that asks for a password, over plain HTTP on loopback."""
    with orthanc(tmp_path_factory.mktemp("orthanc"), password=PASSWORD) as server:
        yield server


@pytest.fixture(scope="session")
def pacs(running: Orthanc) -> Pacs:
    """The SDK's view of it."""
    return Pacs(running.root, authorization=lambda: BASIC, allow_plaintext=True)


@pytest.fixture(scope="session")
def phantom_files(lumbar_phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The phantom as a DICOM series, not yet in any PACS."""
    return write_dicom(lumbar_phantom, tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="session")
def uploaded(pacs: Pacs, phantom_files: list[Path]) -> pydicom.Dataset:
    """One header of the phantom's series, once it is in the PACS."""
    images = [pydicom.dcmread(path) for path in phantom_files]
    pacs.store(images)
    return images[0]
