"""Plays kubelet on this machine: runs the commands that the chart renders, as rendered.

What has to differ is listed here and nowhere else. `REPLACED` flags get other values (ports, paths); `ADDED`
flags tell the embedded Triton where its parts are, which NVIDIA's container knows by itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trustme
from chart_support import Chart, container, only

from spine_server.distribution import find_distribution
from spine_server.leftovers import SHARED_MEMORY
from spine_server.processes import stubs_of
from spine_server.repository import default_repository
from spine_server.run_folder import lay_out_backends

REPLACED = {
    "--triton": "the embedded one, laid out as NVIDIA's container has its own; for the gate, its free port",
    "--repository": "the checkout's",
    "--host": "127.0.0.1: nothing here listens to other machines",
    "--monitor-host": "127.0.0.1",
    "--grpc-port": "a free port",
    "--metrics-port": "a free port",
    "--status-port": "a free port",
    "--listen": "a free port on loopback",
}
GPU_ONLY = ("--cuda-memory-pool-byte-size", "--allow-gpu-metrics", "--pinned-memory-pool-byte-size")
"""Left out on a machine without a GPU; only the GPU profile says them."""
KEY = "a-key-of-the-test-0123456789"
VALUES = {"tls": {"mode": "existingSecret", "secretName": "t"}, "apiKeys": {"existingSecret": "k"}}
START_PATIENCE_S = 270
"""Less than the preset's own 600 s, and less than a test may take."""


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

    def __init__(self, process: subprocess.Popen[str], host: str, port: int, status_port: int) -> None:
        self.process, self.host, self.port, self.status_port = process, host, port, status_port

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
        self.secrets = {"t": self.certificates.server, "k": self.keys}
        """What stands in the secrets that `VALUES` names."""
        self.port, self.metrics_port, self.status_port = free_port(), free_port(), free_port()
        self.gates: list[LocalGate] = []
        self.server: subprocess.Popen[bytes] | None = None
        self._prefix = "no run yet"
        self._install_triton()

    def spec(self, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The preset's pod."""
        manifests = self.chart.render(self.preset, values=self.values if values is None else values)
        pod: dict[str, Any] = only(manifests, "Deployment", "rel-spineserve")["spec"]["template"]["spec"]
        return pod

    def rendered(self, name: str) -> dict[str, Any]:
        """A container of the preset."""
        return container(self.spec(), name)

    def _install_triton(self) -> None:
        """The embedded Triton, laid out as in NVIDIA's container."""
        distribution = find_distribution()
        self.triton_home = self.folder / "tritonserver"
        (self.triton_home / "bin").mkdir(parents=True)
        (self.triton_home / "bin" / "tritonserver").symlink_to(distribution.executable)
        (self.triton_home / "lib").symlink_to(distribution.libraries)
        lay_out_backends(self.triton_home, distribution)

    def command(self) -> list[str]:
        """Triton's container: the rendered command and arguments."""
        rendered = self.rendered("triton")
        assert rendered["command"] == ["spine-server"]
        left_out = GPU_ONLY if "--profile=gpu" in rendered["args"] else ()
        arguments = replaced(
            [word for word in rendered["args"] if word.partition("=")[0] not in left_out],
            {
                "--triton": self.triton_home,
                "--repository": self.repository,
                "--host": "127.0.0.1",
                "--monitor-host": "127.0.0.1",
                "--grpc-port": self.port,
                "--metrics-port": self.metrics_port,
                "--status-port": self.status_port,
            },
        )
        return [str(Path(sys.executable).parent / "spine-server"), *arguments]

    def start_triton(self) -> None:
        """Run the command and wait for the rendered startup probe.

        As kubelet does, a container that ends by itself is started again, at most twice: where processors are
        short, an embedded Triton sometimes aborts while its stages load (boost's lock_exception).
        """
        deadline = time.monotonic() + START_PATIENCE_S
        restarts = 0
        self._run()
        while self.probe("startupProbe") != 200:
            assert time.monotonic() < deadline, f"the startup probe never passed: {self.log()}"
            if self.server is not None and self.server.poll() is not None:
                restarts += 1
                assert restarts <= 2, self.log()
                self._run()
            time.sleep(0.2)

    def _run(self) -> None:
        scratch = self.folder / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        environment = {**os.environ, "TMPDIR": str(scratch), "HOME": str(scratch)}
        with (self.folder / "triton.log").open("ab") as log:
            self.server = subprocess.Popen(self.command(), env=environment, stdout=log, stderr=log)

    def log(self) -> str:
        """The last of what the container wrote."""
        return (self.folder / "triton.log").read_text(errors="replace")[-3000:]

    def probe(self, name: str) -> int:
        """Do what kubelet does for one of Triton's rendered probes: the status, 0 where nothing answers."""
        rendered = self.rendered("triton")[name]
        assert rendered["httpGet"]["port"] == "status"
        return _look("127.0.0.1", self.status_port, rendered)

    def gate_probe(self, name: str, gate: LocalGate) -> int:
        """The same for one of a gate's."""
        rendered = self.rendered("gate")[name]
        assert rendered["httpGet"]["port"] == "gate-status"
        return _look(gate.host, gate.status_port, rendered)

    def start_gate(
        self, *, plain: bool = False, host: str = "127.0.0.1", port: int = 0, **limits: int
    ) -> LocalGate:
        """Run the rendered gate with its secrets mounted: mutual TLS and keys, or (`plain`) keys alone."""
        chosen = {**self.values, "tls": {"mode": "off"}} if plain else dict(self.values)
        spec = self.spec({**chosen, "gate": limits} if limits else chosen)
        rendered = container(spec, "gate")
        values: dict[str, object] = {
            "--listen": f"{host}:{port}",
            "--triton": f"127.0.0.1:{self.port}",
            "--status-port": 0,
        }
        assert rendered["command"][0] == "python3"
        arguments = [self._mounted(spec, rendered, word) for word in replaced(rendered["args"], values)]
        command = [sys.executable, *rendered["command"][1:], *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = process.stdout.readline()
        ports = re.fullmatch(r"spine-gate: grpc port (\d+), status port (\d+)\n", first)
        assert ports, first
        self.gates.append(LocalGate(process, host, int(ports[1]), int(ports[2])))
        return self.gates[-1]

    def _mounted(self, spec: dict[str, Any], rendered: dict[str, Any], word: str) -> str:
        """An argument, its path inside a mounted secret turned into the path where that secret is here."""
        secrets = {volume["name"]: volume["secret"] for volume in spec["volumes"] if "secret" in volume}
        for mount in rendered["volumeMounts"]:
            if mount["name"] in secrets and f"={mount['mountPath']}" in word:
                folder = self.secrets[secrets[mount["name"]]["secretName"]]
                return word.replace(mount["mountPath"], str(folder))
        assert "=/etc/spineserve" not in word, f"{word} lies in no mounted secret"
        return word

    def share_secrets(self, other: LocalPod) -> None:
        """Mount the same secrets as another pod of the same deployment."""
        self.certificates, self.keys, self.secrets = other.certificates, other.keys, other.secrets

    def stubs(self, model: str) -> list[int]:
        """Process numbers of a model's Python stubs."""
        return [stub.pid for stub in stubs_of(self._triton_pid()) if stub.model == model]

    def regions(self) -> list[Path]:
        """Shared memory that the stages of the present Triton use, or of the last one have left."""
        for pid in _family(self.server.pid) if self.server and self.server.poll() is None else ():
            named = re.findall(r"python,shm-region-prefix-name=(\S+)", _command_line(pid))
            self._prefix = named[0] if named else self._prefix
        return list(SHARED_MEMORY.glob(f"{self._prefix}*"))

    def kill_container(self) -> None:
        """SIGKILL to all of it, as when kubelet ends a container that does not end by itself."""
        assert self.server is not None
        for pid in reversed(_family(self.server.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait(10)

    def _triton_pid(self) -> int:
        """The supervisor's child."""
        assert self.server is not None
        found = [pid for pid in _family(self.server.pid) if "/bin/tritonserver" in _command_line(pid)]
        return found[0]

    def stop(self) -> int | None:
        """End everything as kubelet does, gates first; the exit code of Triton's container."""
        for gate in self.gates:
            if gate.process.poll() is None:
                gate.process.kill()
                gate.process.wait()
        if self.server is None or self.server.poll() is not None:
            return None
        self.server.send_signal(signal.SIGCONT)
        self.server.terminate()
        try:
            return self.server.wait(60)
        except subprocess.TimeoutExpired:
            self.kill_container()
            return None


def _look(host: str, port: int, probe: Mapping[str, Any]) -> int:
    url = f"http://{host}:{port}{probe['httpGet']['path']}"
    try:
        with urllib.request.urlopen(url, timeout=probe["timeoutSeconds"]) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _family(pid: int) -> list[int]:
    """A process and all that descend from it, parents first."""
    found = [pid]
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in listing.read_text().split():
                found += _family(int(child))
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
