"""The systems that are compared, each in processes of its own, asked for one volume after another.

(a) nnUNetPredictor, timed inside its own process; (b) the same behind FastAPI and one uvicorn worker, timed
at the HTTP client; (c) SpineServe, timed at the SDK, from the array in memory to the labels in memory.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import requests
from reliability.replica import free_port

from speed import modes
from speed.stages import Statistics
from spine_client import SpineClient
from spine_client import Volume as ClientVolume
from spine_export.images import Image
from spinecore.geometry import restore_orientation
from spinecore.network_spec import NetworkSpec
from spinecore.preprocessing import NETWORK_ORIENTATION

BENCHMARKS = Path(__file__).resolve().parents[1]
_START_S, _ANSWER_S = 300.0, 3600.0
_NEVER_S = "86400"
"""Canaries would take the processor from whoever is measured just then."""


@dataclass(frozen=True)
class Answer:
    """One volume's labels (Z, Y, X) uint8 on its own grid, the wall time, and seconds by stage."""

    labels: np.ndarray[Any, np.dtype[np.uint8]]
    seconds: float
    stages: Mapping[str, float] = field(default_factory=dict)


class System(Protocol):
    """One way of serving a network; `pid` is the root of all its processes."""

    name: str

    @property
    def pid(self) -> int: ...

    def segment(self, image: Image) -> Answer:
        """Labels of one image."""

    def close(self) -> None:
        """End all its processes."""


class PlainPredictor:
    """nnUNetPredictor in a process of its own. Wall time is that of the call itself."""

    name = "nnunet"

    def __init__(self, results: Path, spec: NetworkSpec, *, threads: int) -> None:
        self._spec = spec
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_predict, args=(theirs, results, threads), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def segment(self, image: Image) -> Answer:
        self._pipe.send((image.array, image.spacing))
        labels, seconds, stages = self._pipe.recv()
        return Answer(_as_sent(labels, image, self._spec), seconds, stages)

    def close(self) -> None:
        self._pipe.close()
        self._process.join(10)
        self._process.kill()
        self._process.join()


def _predict(pipe: Connection, results: Path, threads: int) -> None:
    """The worker: volumes in, labels and seconds out, until the other side hangs up."""
    from speed.predictor import Predictor

    predictor = Predictor(results, threads=threads)
    pipe.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            array, spacing = pipe.recv()
            began = time.perf_counter()
            labels = predictor.segment(array, spacing)
            pipe.send((labels, time.perf_counter() - began, predictor.seconds))


class WebServer:
    """The same predictor behind FastAPI, one uvicorn worker, asked over HTTP on loopback."""

    name = "fastapi"

    def __init__(self, results: Path, spec: NetworkSpec, *, threads: int, log: Path) -> None:
        self._spec = spec
        port = free_port()
        self._url, self._session = f"http://127.0.0.1:{port}", requests.Session()
        command = [sys.executable, "-m", "uvicorn", "speed.web_app:app", "--port", str(port)]
        command += ["--workers", "1", "--log-level", "warning"]
        given = {"SPEED_RESULTS": str(results), "SPEED_THREADS": str(threads), "PYTHONPATH": str(BENCHMARKS)}
        with log.open("ab") as words:
            self._process = subprocess.Popen(command, env={**os.environ, **given}, stdout=words, stderr=words)
        _wait(self._process, self._is_ready, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _is_ready(self) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return self._session.get(f"{self._url}/ready", timeout=5).ok
        return False

    def segment(self, image: Image) -> Answer:
        began = time.perf_counter()
        query = {
            "shape": ",".join(map(str, image.array.shape)),
            "spacing": ",".join(map(repr, image.spacing)),
        }
        body = image.array.tobytes()
        answer = self._session.post(f"{self._url}/segment", params=query, data=body, timeout=_ANSWER_S)
        answer.raise_for_status()
        labels = np.frombuffer(answer.content, np.uint8).reshape(image.array.shape[1:])
        return Answer(_as_sent(labels, image, self._spec), time.perf_counter() - began)

    def close(self) -> None:
        self._session.close()
        _end(self._process)


class SpineServe:
    """A real `spine-server` on a repository, asked through the SDK over gRPC."""

    def __init__(self, repository: Path, *, mode: str, log: Path, arguments: tuple[str, ...] = ()) -> None:
        self.name, self.mode = f"spineserve {mode}", mode
        self.url = f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "spine_server.cli", "--repository", str(repository)]
        command += ["--grpc-port", self.url.rpartition(":")[2], "--log-file", str(log)]
        command += ["--canary-interval", _NEVER_S, "--hung-after", _NEVER_S, *arguments]
        with log.open("ab") as words:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=words)
        self.client = SpineClient(self.url, timeout_s=_ANSWER_S)
        _wait(self._process, lambda: self.client.health(model="segmentation").ok, log)
        self.statistics = Statistics(self.url)

    @property
    def pid(self) -> int:
        return self._process.pid

    def segment(self, image: Image) -> Answer:
        volume = ClientVolume(image.volume.voxels, image.volume.affine)
        before = self.statistics.read()
        began = time.perf_counter()
        labels = self.client.segment(volume, options=modes.options(self.mode)).labels
        seconds = time.perf_counter() - began
        return Answer(labels, seconds, self.statistics.read().since(before).stages(seconds))

    def close(self) -> None:
        self.client.close()
        _end(self._process)


def _as_sent(labels: np.ndarray[Any, Any], image: Image, spec: NetworkSpec) -> np.ndarray[Any, Any]:
    """Labels on the grid of the volume as it was sent, as nnU-Net's writer turns them."""
    if spec.reader != "reorient_ras":
        return labels
    return restore_orientation(labels, source=image.volume.orientation, target=NETWORK_ORIENTATION)


def _wait(process: subprocess.Popen[bytes], ready: Any, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            _end(process)
            raise RuntimeError(f"A server did not start; its log ends: {log.read_text()[-800:]}")
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
