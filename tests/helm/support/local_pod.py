"""Plays kubelet on this machine: runs the commands that the chart renders, as rendered.

What has to differ is listed here and nowhere else. `REPLACED` flags get other values (ports, paths); `ADDED`
flags tell the embedded Triton where its parts are, which NVIDIA's container knows by itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trustme
from chart_support import Chart, container, only

from spine_server import launch
from spine_server.distribution import find_distribution
from spine_server.leftovers import SHARED_MEMORY, RunToken
from spine_server.repository import default_repository
from spine_server.run_folder import lay_out_backends

REPLACED = {
    "--model-repository": "the checkout's",
    "--grpc-port": "a free port",
    "--metrics-port": "a free port",
    "--metrics-address": "127.0.0.1: nothing here listens to other machines",
    "--listen": "a free port on loopback",
    "--triton": "Triton's free port",
    "--status-port": "a free port",
    "--tls-cert": "files made for the test",
    "--tls-key": "files made for the test",
    "--tls-client-ca": "files made for the test",
    "--api-keys": "files made for the test",
    "--grpc": "Triton's free port",
}
GPU_ONLY = ("--cuda-memory-pool-byte-size", "--allow-gpu-metrics", "--pinned-memory-pool-byte-size")
"""Left out where a preset of the GPU profile is run on a machine without one."""
ADDED = ("--backend-directory", "--backend-config")
KEY = "a-key-of-the-test-0123456789"
VALUES = {"tls": {"mode": "existingSecret", "secretName": "t"}, "apiKeys": {"existingSecret": "k"}}
START_PATIENCE_S = 240
"""Less than the preset's own 600 s, and less than a test may take."""
POD_UID = "5f0b3b0e-7f63-4f6e-9d9a-0c5d1f6c8f11"


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def replaced(arguments: list[str], values: Mapping[str, object]) -> list[str]:
    """`arguments` with other values for some flags, each of which must be there and in `REPLACED`."""
    assert values.keys() <= REPLACED.keys()
    flags = [argument.partition("=")[0] for argument in arguments]
    assert values.keys() <= set(flags), values.keys() - set(flags)
    return [
        f"{flag}={values[flag]}" if flag in values else argument
        for flag, argument in zip(flags, arguments, strict=True)
    ]


class Certificates:
    """What a secret of the chart holds: tls.crt, tls.key and ca.crt, for a server and for a client."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.server, self.client = folder / "server", folder / "client"
        self.write(self.server, "localhost", "127.0.0.1")
        self.write(self.client, "caller.example")

    def write(self, folder: Path, *names: str) -> None:
        """Issue a certificate and lay it out like a mounted secret."""
        folder.mkdir(parents=True, exist_ok=True)
        issued = self.authority.issue_cert(*names)
        self.authority.cert_pem.write_to_path(str(folder / "ca.crt"))
        issued.private_key_pem.write_to_path(str(folder / "tls.key"))
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        (folder / "tls.crt").write_bytes(chain)


class LocalGate:
    """One gate process with the rendered arguments."""

    def __init__(self, process: subprocess.Popen[str], port: int, status_port: int) -> None:
        self.process, self.port, self.status_port = process, port, status_port

    def terminate(self, timeout_s: float) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


class LocalPod:
    """Triton and gates with a preset's rendered commands, by default on the checkout's model repository."""

    def __init__(
        self,
        chart: Chart,
        folder: Path,
        *,
        preset: str | None = "cpu",
        values: Mapping[str, Any] = VALUES,
        repository: Path | None = None,
    ) -> None:
        self.chart, self.folder, self.preset, self.values = chart, folder, preset, values
        self.repository = repository or default_repository()
        self.certificates = Certificates(folder)
        self.keys = folder / "keys"
        self.keys.mkdir()
        (self.keys / "current").write_text(KEY)
        self.token = RunToken()
        self.distribution = find_distribution()
        self.port, self.metrics_port = free_port(), free_port()
        self.gates: list[LocalGate] = []
        self.triton: subprocess.Popen[bytes] | None = None
        self._released = False
        self._make_tritonserver()

    def rendered(self, name: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A container of the preset."""
        manifests = self.chart.render(self.preset, values=self.values if values is None else values)
        deployment = only(manifests, "Deployment")
        return container(deployment["spec"]["template"]["spec"], name)

    def _make_tritonserver(self) -> None:
        """A `tritonserver` on PATH, as in NVIDIA's container; it hands everything on to the embedded one."""
        backends = lay_out_backends(self.token.run_folder, self.distribution)
        prefixes = [
            f"--backend-config={b},shm-region-prefix-name={self.token.name}" for b in ("python", "openvino")
        ]
        words = [str(self.distribution.executable), f"--backend-directory={backends}", *prefixes]
        assert all(word.partition("=")[0] in ADDED for word in words[1:])
        program = self.folder / "bin" / "tritonserver"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def triton_command(self) -> list[str]:
        """The rendered command and arguments; the shell may clear this run's shared memory only."""
        rendered = self.rendered("triton")
        command = [
            word.replace("/dev/shm/*", f"/dev/shm/{self.token.name}*-*") for word in rendered["command"]
        ]
        arguments = replaced(
            [word for word in rendered["args"] if word.partition("=")[0] not in self._left_out()],
            {
                "--model-repository": self.repository,
                "--grpc-port": self.port,
                "--metrics-port": self.metrics_port,
                "--metrics-address": "127.0.0.1",
            },
        )
        return [*command, *(argument.replace("$(POD_UID)", POD_UID) for argument in arguments)]

    def _left_out(self) -> tuple[str, ...]:
        return () if self.preset == "cpu" else GPU_ONLY

    def start_triton(self) -> None:
        """Run the command and wait for the rendered startup probe.

        As kubelet does, a Triton that ends by itself is started again, at most twice: where processors are
        short, an embedded one sometimes aborts while its stages load (boost's lock_exception).
        """
        deadline = time.monotonic() + START_PATIENCE_S
        restarts = 0
        self._run_triton()
        while (done := self.probe("startupProbe")).returncode:
            assert time.monotonic() < deadline, f"the startup probe never passed: {done.stderr}"
            if self.triton is not None and self.triton.poll() is not None:
                restarts += 1
                assert restarts <= 2, (self.folder / "triton.log").read_text()[-3000:]
                self._run_triton()
            time.sleep(0.5)

    def _run_triton(self) -> None:
        environment = launch.environment(self.distribution)
        environment["PATH"] = f"{self.folder / 'bin'}:{environment['PATH']}"
        with (self.folder / "triton.log").open("ab") as log:
            self.triton = subprocess.Popen(self.triton_command(), env=environment, stdout=log, stderr=log)

    def probe(self, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run one of Triton's rendered probe commands."""
        command = self.rendered("triton")[name]["exec"]["command"]
        assert command[0] == "python3"
        words = replaced(command[1:], {"--grpc": f"127.0.0.1:{self.port}"})
        environment = {**os.environ, "TMPDIR": str(self.folder), "POD_UID": POD_UID}
        return subprocess.run(
            [sys.executable, *words, *more], env=environment, capture_output=True, text=True, timeout=60
        )

    def start_gate(self, *, plain: bool = False, **limits: int) -> LocalGate:
        """Run the rendered gate: with mutual TLS and keys, or (`plain`) with keys alone."""
        chosen = {"apiKeys": {"existingSecret": "k"}} if plain else VALUES
        rendered = self.rendered("gate", {**chosen, "gate": limits} if limits else chosen)
        values: dict[str, object] = {
            "--listen": "127.0.0.1:0",
            "--triton": f"127.0.0.1:{self.port}",
            "--status-port": 0,
            "--api-keys": self.keys,
        }
        if not plain:
            server = self.certificates.server
            values |= {
                "--tls-cert": server / "tls.crt",
                "--tls-key": server / "tls.key",
                "--tls-client-ca": server / "ca.crt",
            }
        assert rendered["command"][0] == "python3"
        command = [sys.executable, *rendered["command"][1:], *replaced(rendered["args"], values)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = process.stdout.readline()
        ports = re.fullmatch(r"spine-gate: grpc port (\d+), status port (\d+)\n", first)
        assert ports, first
        self.gates.append(LocalGate(process, int(ports[1]), int(ports[2])))
        return self.gates[-1]

    def stubs(self, model: str) -> list[int]:
        """Process numbers of a model's Python stubs."""
        return [pid for pid in self._children() if f"/{model}/1/" in _command_line(pid)]

    def regions(self) -> list[Path]:
        """Shared memory that this pod's stages left or use."""
        return list(SHARED_MEMORY.glob(f"{self.token.name}*-*"))

    def kill_triton(self) -> None:
        """SIGKILL to all of it, as when kubelet ends a container that does not end by itself."""
        assert self.triton is not None
        for pid in (*self._children(), self.triton.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.triton.wait(10)

    def _children(self) -> list[int]:
        assert self.triton is not None
        try:
            text = Path(f"/proc/{self.triton.pid}/task/{self.triton.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in text.split()]

    def stop(self) -> int | None:
        """End everything as kubelet does, gates first; Triton's exit code."""
        for gate in self.gates:
            if gate.process.poll() is None:
                gate.process.kill()
                gate.process.wait()
        code = None
        if self.triton is not None and self.triton.poll() is None:
            self.triton.terminate()
            try:
                code = self.triton.wait(40)
            except subprocess.TimeoutExpired:
                self.kill_triton()
        self._end_strays()
        if not self._released:
            self._released = True
            self.token.release()
        return code

    def _end_strays(self) -> None:
        """Stubs that outlived an aborted Triton; in a container they go with it."""
        for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")):
            line = _command_line(pid)
            if self.token.name in line and "triton_python_backend_stub" in line:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
