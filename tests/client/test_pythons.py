"""`./client` alone, in an empty environment, on every Python that it promises and this machine has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
_CLIENT = Path(__file__).resolve().parents[2] / "client"
_SUPPORT = Path(__file__).parent / "support"
_VERSIONS = ("3.10", "3.11", "3.12", "3.13")
_IMPORT = """
import sys, time
began = time.process_time()
import spine_client
took = time.process_time() - began
spine_client.SpineClient, spine_client.AsyncSpineClient
import spine_client.dicom
heavy = {"torch", "scipy", "highdicom", "matplotlib", "nibabel", "pandas", "SimpleITK", "spinecore"}
print(took, *sorted(heavy & set(sys.modules)))
"""
_WORK = """
import asyncio, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from fake_triton import FakeTriton, fails, good_answer, in_shared_memory, labels_only, start
import grpc
from spine_client import AsyncSpineClient, MissingExtra, SpineClient

servicer = FakeTriton(fails(grpc.StatusCode.UNAVAILABLE, ""), good_answer)
server, port = start(servicer)
volume = (np.arange(120, dtype=np.int16).reshape(4, 6, 5), np.eye(4))
url = f"127.0.0.1:{port}"
with SpineClient(url) as client:
    result = client.analyze(volume)
    assert result.discs[0].title == "L4/L5"
    assert [outcome.ok for outcome in client.analyze_many([volume] * 3)] == [True] * 3
    assert client.health(deep=True).ok
    assert result.save(sys.argv[2], formats=["json"])["json"].is_file()
    for impossible in (result.to_frame, lambda: result.save(sys.argv[2], formats=["html"])):
        try:
            impossible()
        except MissingExtra as error:
            print(error)
    servicer.behaviours = (labels_only,)
    assert client.segment(volume).volumes_mm3 == {3: 60.0}
servicer.behaviours = (in_shared_memory(servicer),)
with SpineClient(url, shared_memory=True) as client:
    assert client.analyze(volume).labels.max() == 119

async def main():
    async with AsyncSpineClient(url) as client:
        return [outcome.ok async for outcome in client.analyze_many([volume] * 3)]

servicer.behaviours = (good_answer,)
assert asyncio.run(main()) == [True] * 3
server.stop(None)
"""


def interpreter(version: str) -> str:
    """A Python of that version that runs; the test is skipped where there is none."""
    candidates = [shutil.which(f"python{version}") or ""]
    candidates += map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for path in filter(None, candidates):
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    pytest.skip(f"no Python {version} on this machine")


@pytest.mark.parametrize("version", _VERSIONS)
def test_client_alone_installs_imports_and_works(version: str, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([interpreter(version), "-m", "venv", tmp_path / "venv"], check=True)
    shutil.copytree(_CLIENT, tmp_path / "client")  # building leaves nothing in the checkout
    install = [python, "-m", "pip", "install", "--quiet", tmp_path / "client"]
    subprocess.run(install, check=True, capture_output=True, text=True)

    seconds, *heavy = subprocess.check_output([python, "-c", _IMPORT], text=True).split()
    assert (float(seconds) < 0.5, heavy) == (True, [])
    work = [python, "-W", "error", "-c", _WORK, _SUPPORT, tmp_path / "out"]
    said = subprocess.run(work, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "spineserve-client[pandas]" in said.stdout and "spineserve-client[" in said.stdout
    spine = tmp_path / "venv" / "bin" / "spine"
    for arguments, code in (
        (["--version"], 0),
        (["health", "--url", "127.0.0.1:1"], 4),
        (["completion", "bash"], 2),
    ):
        assert subprocess.run([spine, *arguments], capture_output=True, check=False).returncode == code


def test_some_python_is_tried() -> None:
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in _VERSIONS
