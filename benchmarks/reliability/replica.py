"""One `spine-server` of a fleet: a process of its own, with a small /dev/shm and log disk of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from reliability import sandbox
from reliability.processes import alive, send, tree, tritonserver_below
from spine_server.processes import Stub, stubs_of

SHM_MIB, LOG_KIB = 768, 256
_FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


class Replica:
    """A supervised server on a fixed port. `start` and `stop` may be called again and again.

    Parameters
    ----------
    folder : for its log, and the offset of its clock
    shifted_clock : run it under libfaketime, so that `jump_clock` works
    """

    def __init__(self, number: int, folder: Path, *, shifted_clock: bool = False) -> None:
        self.number, self.port, self.metrics_port = number, free_port(), free_port()
        folder = folder.resolve()  # the server and the mounts of its own want whole paths
        self.logs = folder / f"logs-{number}"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.words = folder / f"spine-server-{number}.txt"
        self._clock = folder / f"clock-{number}"
        self._clock.write_text("+0")
        self._shifted_clock = shifted_clock and Path(_FAKETIME).exists()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def can_jump(self) -> bool:
        """Whether its clock can be made to jump."""
        return self._shifted_clock

    @property
    def pid(self) -> int:
        """Process number of spine-server."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it; `wait_ready` waits."""
        command = [sys.executable, "-m", "spine_server.cli", "--grpc-port", str(self.port)]
        command += ["--metrics-port", str(self.metrics_port), "--log-file", str(self.logs / "triton.log")]
        command += ["--max-restarts", "50"]  # it is hit more often than a server's life would
        if sandbox.inside():
            mounts = (
                f"mount -t tmpfs -o size={SHM_MIB}m none /dev/shm && mount -t tmpfs -o size={LOG_KIB}k none"
            )
            command = [
                "unshare",
                "--mount",
                "sh",
                "-c",
                f'{mounts} "$0" && exec "$@"',
                str(self.logs),
                *command,
            ]
        with self.words.open("ab") as words:
            self.process = subprocess.Popen(
                command, env=self._environment(), stdout=words, stderr=words, start_new_session=True
            )

    def _environment(self) -> dict[str, str]:
        """With a `setpriv` that starts Triton under libfaketime; spine-server cannot sleep under it."""
        if not self._shifted_clock:
            return dict(os.environ)
        fake = {
            "LD_PRELOAD": _FAKETIME,
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        wrapper = self._clock.parent / "bin" / "setpriv"
        wrapper.parent.mkdir(exist_ok=True)
        settings = " ".join(f"{name}='{value}'" for name, value in fake.items())
        wrapper.write_text(f'#!/bin/sh\nexec env {settings} {shutil.which("setpriv")} "$@"\n')
        wrapper.chmod(0o755)
        return {**os.environ, "PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}"}

    def wait_ready(self, timeout_s: float) -> None:
        """Until a canary was answered; where a starved Triton aborts as it starts, it is started again."""
        deadline, tries = time.monotonic() + timeout_s, 0
        while b"ready in" not in self.words.read_bytes():
            if self.process is None or self.process.poll() is not None:
                tries += 1
                self.start()
            if tries > 3 or time.monotonic() > deadline:
                raise TimeoutError(f"Replica {self.number} did not start: {self.words.read_text()[-500:]}")
            time.sleep(0.2)

    @property
    def triton(self) -> int:
        """Process number of its tritonserver."""
        found = tritonserver_below(self.pid)
        if found is None:
            raise RuntimeError(f"Replica {self.number} has no tritonserver now.")
        return found

    def stubs(self, model: str) -> list[Stub]:
        """The processes of a model."""
        return [stub for stub in stubs_of(self.triton) if stub.model == model]

    def freeze(self) -> None:
        """SIGSTOP to all of it, the supervisor included: a machine that hangs."""
        self._frozen = tree(self.pid)
        send(self._frozen, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        send(self._frozen, signal.SIGCONT)

    def jump_clock(self, offset: str) -> None:
        """Shift its wall clock, e.g. ``+1d``; the monotonic one goes on, as when NTP corrects a machine."""
        self._clock.write_text(offset)

    def private(self, path: Path) -> Path:
        """A path as the replica sees it, in its own mounts."""
        return Path(f"/proc/{self.pid}/root") / path.relative_to("/")

    def fill(self, path: Path) -> Path:
        """Fill the small file system at `path` to the last byte; the file to remove again."""
        filler = self.private(path) / "filler"
        with filler.open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4096 if path == self.logs else 2**20))
            except OSError:
                pass
        return filler

    def stop(self, timeout_s: float = 60.0) -> None:
        """In order, as a rolling update does; by force after `timeout_s`."""
        if self.process is None:
            return
        everything = tree(self.pid) if alive(self.pid) else []
        send([self.pid], signal.SIGTERM)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            send([*everything, *tree(self.pid)], signal.SIGKILL)
            self.process.wait()
        self.words.write_bytes(b"")

    def keep_log(self, folder: Path) -> None:
        """Copy the log out of the replica's own mount."""
        log = self.private(self.logs) / "triton.log"
        if log.exists():
            shutil.copy(log, folder / f"triton-{self.number}.log")
