"""A stage or a Triton that dies or hangs comes back by itself, and says so."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from spine_server.canary import run_canary
from spine_server.errors import CanaryError
from spine_server.leftovers import SHARED_MEMORY
from spine_server.processes import stubs_of
from spine_server.supervisor import StopRequest

PATIENCE_S = 60.0
"""For a machine busy with other things. How long recovery takes is measured by `make recovery`; here it
counts that a stage comes back without a restart: the supervisor itself allows it as long as a start took."""


class Supervised:
    """A `spine-server` in a process of its own."""

    def __init__(self, repository: Path, *options: str) -> None:
        command = [sys.executable, "-m", "spine_server.cli", "--repository", str(repository)]
        command += ["--grpc-port", "0", "--status-port", "0", "--log-level", "warning", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.words = self.process.stdout.readline()
        self.url = re.findall(r"grpc ([\d.:]+)", self.words)[0]
        self.status_url = re.findall(r"status (\S+)", self.words)[0]

    @property
    def triton(self) -> int:
        """Process number of the Triton that runs now; waits for it while there is none."""
        return int(until(lambda: self._children(), 30.0)[0])

    def _children(self) -> list[str]:
        pid = self.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def stub(self, model: str) -> int:
        """Process number of the newest process of a model; waits for it while there is none."""
        return int(
            until(lambda: [each.pid for each in stubs_of(self.triton) if each.model == model], 30.0)[-1]
        )

    @property
    def memory(self) -> set[Path]:
        """Everything in /dev/shm that bears the name of the Triton that runs now."""
        arguments = Path(f"/proc/{self.triton}/cmdline").read_text()
        (name,) = set(re.findall(r"shm-region-prefix-name=(spineserve-\w+)", arguments))
        return set(SHARED_MEMORY.glob(f"{name}*"))

    def answers(self) -> bool:
        try:
            run_canary(self.url, timeout_s=3.0)
        except CanaryError:
            return False
        return True

    def metrics(self) -> dict[str, float]:
        text = urllib.request.urlopen(self.status_url, timeout=5).read().decode()
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def stop(self) -> tuple[int, str]:
        """Exit code, and what it said on standard error."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


def until(condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return value


@contextmanager
def supervised(repository: Path, *options: str) -> Iterator[Supervised]:
    server = Supervised(repository, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def answers_again(server: Supervised) -> None:
    """Wait for the supervisor to be content, and for two answers in a row, one from each instance."""
    until(lambda: server.answers() and server.answers(), PATIENCE_S)
    until(lambda: server.metrics()["spineserve_supervisor_ready"] == 1.0, PATIENCE_S)
    assert server.answers()


def test_a_killed_stage_is_back_by_a_reload_and_leaves_no_memory(tiny_repository: Path) -> None:
    with supervised(tiny_repository) as server:
        triton = server.triton
        reloads = 'spineserve_supervisor_reloads_total{model="stage"}'
        for killed in (1, 2):
            os.kill(server.stub("stage"), signal.SIGKILL)
            # While the death is not noticed yet, the other instance may answer every call.
            until(lambda: server.metrics().get(reloads) == killed, PATIENCE_S)  # noqa: B023 - at once
            answers_again(server)
        metrics = server.metrics()
        assert metrics[reloads] == 2.0
        assert metrics["spineserve_supervisor_restarts_total"] == 0.0
        assert server.triton == triton
        memory = server.memory
        assert all(path.stat().st_mode & 0o077 == 0 for path in memory)
        code, errors = server.stop()
    assert code == 0
    assert "stage: a process has died; loading stage anew" in errors
    assert "stage works again after" in errors
    assert len(memory) >= 2 and not any(path.exists() for path in memory)


def test_a_death_is_noticed_while_a_canary_waits_for_a_busy_stage(tiny_repository: Path) -> None:
    """The canary waits five seconds; the death must not."""
    shutil.copytree(tiny_repository / "stage", tiny_repository / "busy")
    stage, asked = tiny_repository / "busy" / "1" / "model.py", tiny_repository.parent / "asked"
    busy = (
        f"import pathlib, time; pathlib.Path({str(asked)!r}).touch(); time.sleep(6)\n        volume = request"
    )
    stage.write_text(stage.read_text().replace("volume = request", busy))
    with supervised(tiny_repository, "--canary-interval", "0.1") as server:
        until(asked.exists, PATIENCE_S)
        asked.unlink()
        until(asked.exists, PATIENCE_S)
        os.kill(server.stub("stage"), signal.SIGKILL)
        until(lambda: server.metrics()['spineserve_supervisor_model_up{model="stage"}'] == 0.0, 2.5)
        answers_again(server)


def test_a_stopped_stage_counts_as_dead(tiny_repository: Path) -> None:
    with supervised(tiny_repository) as server:
        triton, stub = server.triton, server.stub("stage")
        os.kill(stub, signal.SIGSTOP)
        until(lambda: server.stub("stage") != stub, PATIENCE_S)
        answers_again(server)
        assert server.triton == triton


@pytest.mark.slow
def test_a_hung_stage_counts_as_dead_after_its_deadline(tiny_repository: Path) -> None:
    stage = tiny_repository / "stage" / "1" / "model.py"
    mark = tiny_repository.parent / "hang"
    hang = f"import pathlib, time\n        while pathlib.Path({str(mark)!r}).exists(): time.sleep(0.1)\n"
    stage.write_text(stage.read_text().replace("volume = request", hang + "        volume = request"))
    with supervised(tiny_repository, "--hung-after", "3", "--canary-interval", "1") as server:
        stub = server.stub("stage")
        mark.touch()
        until(lambda: server.metrics()['spineserve_supervisor_model_up{model="stage"}'] == 0.0, PATIENCE_S)
        mark.unlink()
        until(lambda: server.stub("stage") != stub, PATIENCE_S)
        answers_again(server)
        assert "answered nothing for 3 s" in server.stop()[1]


def test_a_killed_triton_is_back_on_the_same_port(tiny_repository: Path) -> None:
    with supervised(tiny_repository) as server:
        triton, memory = server.triton, server.memory
        os.kill(triton, signal.SIGKILL)
        answers_again(server)
        assert server.triton != triton
        assert server.metrics()["spineserve_supervisor_restarts_total"] == 1.0
        memory |= server.memory
        code, errors = server.stop()
    assert code == 0
    assert "Triton ended by itself (exit code -9); restarting at once" in errors
    assert len(memory) >= 4 and not any(path.exists() for path in memory)


@pytest.mark.slow
def test_a_stopped_triton_is_replaced(tiny_repository: Path) -> None:
    with supervised(tiny_repository) as server:
        triton = server.triton
        os.kill(triton, signal.SIGSTOP)
        until(lambda: server.triton != triton, PATIENCE_S)
        answers_again(server)


def test_a_stage_that_cannot_be_loaded_anew_is_given_up_in_the_end(tiny_repository: Path) -> None:
    with supervised(tiny_repository, "--max-restarts", "1") as server:
        memory = server.memory
        stage = tiny_repository / "stage" / "1" / "model.py"
        stage.write_text("import package_that_nobody_has\n" + stage.read_text())
        os.kill(server.stub("stage"), signal.SIGKILL)
        _, errors = server.process.communicate(timeout=60)
    assert server.process.returncode == 4
    assert "stage could not be loaded anew" in errors
    assert "failed 2 times in five minutes, giving up" in errors
    assert "No module named 'package_that_nobody_has'" in errors
    assert not any(path.exists() for path in memory)


@pytest.mark.slow
def test_a_crash_loop_is_slowed_down_and_a_stop_ends_the_pause(tiny_repository: Path) -> None:
    with supervised(tiny_repository, "--max-restarts", "20") as server:
        stage = tiny_repository / "stage" / "1" / "model.py"
        stage.write_text("import package_that_nobody_has\n" + stage.read_text())
        os.kill(server.triton, signal.SIGKILL)
        until(lambda: server.metrics()["spineserve_supervisor_crash_loop"] == 1.0, PATIENCE_S)
        code, errors = server.stop()
    assert code == 0
    assert "(crash loop)" in errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_request_in_the_dead_stage_fails_soon(tiny_repository: Path, number: signal.Signals) -> None:
    stage = tiny_repository / "stage" / "1" / "model.py"
    slow = "import time; time.sleep(2.0 if request.id != 'probe' else 0)\n        volume = request"
    stage.write_text(stage.read_text().replace("volume = request", slow))
    with supervised(tiny_repository) as server:
        stub = server.stub("stage")
        killer = subprocess.Popen(["sh", "-c", f"sleep 1; kill -{int(number)} {stub}"])
        began = time.monotonic()
        with pytest.raises(CanaryError):
            run_canary(server.url, timeout_s=30.0)
        assert time.monotonic() - began < 15.0
        killer.wait()


def test_a_stop_may_be_requested_at_each_line_of_the_wait() -> None:
    """A trace function is where a signal's handler may be: between two lines, whatever lock is held there."""
    stop = StopRequest()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        stop.set()
        return trace

    def wait() -> None:
        sys.settrace(trace)
        stop.wait(10.0)
        sys.settrace(None)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(30.0)
    assert not thread.is_alive() and stop.is_set()


def test_a_stop_may_be_requested_by_a_signal_at_any_moment_of_the_wait() -> None:
    """Some 200 signals while the main thread goes in and out of `wait`."""
    stops = [StopRequest()]

    def handler(number: int, frame: FrameType | None) -> None:
        stops[-1].set()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for _ in range(200):
            while not stops[-1].wait(0.00001):
                pass
            stops.append(StopRequest())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(stop.is_set() for stop in stops[:-1])
