"""Starts Locust: one process, or a master with workers, here or on other machines; waits for its end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from load.task import VARIABLE, Task

_FILE = Path(__file__).with_name("locustfile.py")
_GRACE_S = 10.0
_TO_BEGIN_S = 300.0


class GeneratorError(RuntimeError):
    """Locust ended without results; the message has its last words."""


@dataclass
class Generator:
    """Locust, as processes of this one.

    Parameters
    ----------
    local_workers : processes on this machine; 0 sends from a single one
    remote_workers : others that will connect to `port` of this machine (`join` starts one there)
    host : address that the master listens on
    """

    task: Task
    local_workers: int = 0
    remote_workers: int = 0
    host: str = "127.0.0.1"
    port: int = 5557
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start all processes; the run begins as soon as all workers are there."""
        path = self.task.results / "task.json"
        self.task.write(path)
        results, workers = self.task.results, self.local_workers + self.remote_workers
        words = ["--headless", "--csv", str(results / "locust"), "--html", str(results / "locust.html")]
        words += [
            "--stop-timeout",
            f"{self.task.workload().timeout_s + _GRACE_S:.0f}",
            "--exit-code-on-error",
            "0",
        ]
        if workers:
            words += ["--master", "--master-bind-host", self.host, "--master-bind-port", str(self.port)]
            words += ["--expect-workers", str(workers), "--expect-workers-max-wait", f"{_TO_BEGIN_S:.0f}"]
        self.processes.append(_locust(words, path, results / "locust.log"))
        for number in range(self.local_workers):
            words = worker_words("127.0.0.1", self.port)
            self.processes.append(_locust(words, path, results / f"worker-{number}.log"))

    def wait(self) -> None:
        """Until the last answer. Raises `GeneratorError` if there are no results."""
        workload = self.task.workload()
        limit_s = _TO_BEGIN_S + workload.seconds + workload.timeout_s + 3 * _GRACE_S
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.processes[0].wait(limit_s)
        if not (self.task.results / "begun.json").exists():
            log = (self.task.results / "locust.log").read_text("utf-8", errors="replace")
            raise GeneratorError(f"Locust ended without results. Its last words:\n{log[-1500:]}")

    def stop(self) -> None:
        """Nothing stays behind; what Locust has by then, it writes."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def worker_words(master: str, port: int) -> list[str]:
    """Options of a worker."""
    return ["--worker", "--master-host", master, "--master-port", str(port)]


def join(task: Task, master: str, port: int) -> int:
    """Be a worker of a master elsewhere until it ends the run; Locust's exit code."""
    path = task.results / "task.json"
    task.write(path)
    process = _locust(worker_words(master, port), path, None)
    try:
        return process.wait()
    finally:
        process.terminate()


def _locust(words: Sequence[str], task: Path, log: Path | None) -> subprocess.Popen[bytes]:
    folder = str(Path(__file__).parents[1])
    command = [sys.executable, "-m", "locust", "-f", str(_FILE), *words]
    paths = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, VARIABLE: str(task), "PYTHONPATH": paths, "GRPC_ENABLE_FORK_SUPPORT": "0"}
    with log.open("wb") if log else contextlib.nullcontext() as stream:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
