"""A Triton server of this process: started, waited for, watched and stopped with nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from spine_server import launch, preconditions
from spine_server.canary import POLL_S, run_canary, wait_until_live, wait_until_open
from spine_server.control import ModelControl, socket_address
from spine_server.distribution import find_distribution
from spine_server.errors import CanaryError, PreconditionError, StartError, StopRequested
from spine_server.exact_leaf import lay_out_exact
from spine_server.leftovers import SHARED_MEMORY, RunToken, remove_leftovers
from spine_server.lifeline import lifeline
from spine_server.options import ServerOptions
from spine_server.output import OutputTail
from spine_server.ports import LOOPBACK, with_ports_chosen
from spine_server.processes import mapped_files, stubs_of
from spine_server.repository import Entry, default_repository, entry_models
from spine_server.run_folder import lay_out_backends

_LINGER_S = 3.0
"""Between the end of the last stage and Triton's own."""
_ANY_ADDRESS = {"0.0.0.0": LOOPBACK, "::": "[::1]"}  # nosec B104: nothing listens by it


class EmbeddedTriton:
    """The real Triton from the nvidia-pytriton wheel, serving SpineServe's model repository.

    As a context manager it is ready inside the block, a canary volume having gone through, and gone after
    it::

        with EmbeddedTriton() as server:
            client = SpineClient(server.grpc_url)

    Raises
    ------
    PreconditionError
        From `start`, before anything is started: what is missing, one sentence each.
    StartError, CanaryError
        From `start`: Triton died, hung, or does not answer as it should. Nothing is left running.
    StopRequested
        From `start`: `request_stop` was called meanwhile. Nothing is left running.

    With `controlled`, models can be loaded anew through `control`. Triton has one HTTP door only: where
    `options.http_port` opens it to callers, there is no control.
    """

    def __init__(self, options: ServerOptions | None = None, *, controlled: bool = False) -> None:
        self.options = options or ServerOptions()
        self._controlled = controlled and self.options.http_port is None
        self.started_in_s = 0.0
        """Seconds from the order to start to the canary's answer."""
        self._stop_requested = False
        self._process: subprocess.Popen[str] | None = None
        self._token: RunToken | None = None
        self._output: OutputTail | None = None

    @property
    def grpc_url(self) -> str:
        """``host:port`` for gRPC clients on this machine."""
        return self._url(self.options.host, self.options.grpc_port)

    @property
    def http_url(self) -> str | None:
        """``host:port`` for HTTP clients, or None while HTTP is off."""
        port = self.options.http_port
        return None if port is None else self._url(LOOPBACK, port)

    @property
    def metrics_url(self) -> str | None:
        """The address that Prometheus scrapes, or None while metrics are off."""
        port = self.options.metrics_port
        host = self.options.monitor_host or self.options.host
        return None if port is None else f"http://{self._url(host, port)}/metrics"

    @property
    def pid(self) -> int | None:
        """Process number of tritonserver while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def run_folder(self) -> Path:
        """Where this run keeps its files; only this user may enter. There is none before `start`."""
        assert self._token is not None
        return self._token.run_folder

    @property
    def control(self) -> ModelControl | None:
        """What loads models anew, or None where they are fixed."""
        return ModelControl(self.run_folder) if self._controlled and self._token else None

    @property
    def exit_code(self) -> int | None:
        """Triton's exit code once it has ended (negative: the signal that killed it)."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Check, start, and wait until the canary came back."""
        began = time.monotonic()
        self.options = with_ports_chosen(self.options)
        repository = self.options.repository or default_repository()
        distribution = find_distribution(self.options.triton)
        remove_leftovers()
        if problems := preconditions.problems(self.options, repository, distribution):
            raise PreconditionError(problems)
        self._token = RunToken()
        try:
            beside = None
            if self.options.exact:
                beside = lay_out_exact(self.run_folder, repository, self.options.profile)
            command = launch.command_line(
                self.options,
                executable=distribution.executable,
                repository=repository.resolve(),
                backends=lay_out_backends(self._token.run_folder, distribution),
                run_name=self._token.name,
                control=socket_address(self.run_folder) if self._controlled else None,
                beside=beside,
            )
            self._spawn(command, launch.environment(distribution, run_folder=self.run_folder))
            entries = entry_models(repository, self.options.profile)
            self._wait_until_ready(began + self.options.start_timeout_s, entries)
        except BaseException:
            self.stop()
            raise
        self.started_in_s = time.monotonic() - began

    def request_stop(self) -> None:
        """Make `start` or `wait` return soon. Safe to call from a signal handler or another thread."""
        self._stop_requested = True

    def wait(self) -> int | None:
        """Block until tritonserver ends by itself, or a stop is requested.

        Returns its exit code (negative: the signal that killed it), or None when a stop was requested. It
        polls: a signal that arrives just before a blocking wait would not interrupt it.
        """
        while not self._stop_requested:
            if self._process is None or (code := self._process.poll()) is not None:
                return code if self._process else None
            time.sleep(POLL_S)
        return None

    def stop(self) -> bool:
        """Stop serving, let requests in flight finish, leave nothing behind. False if it had to be killed."""
        clean = True
        if self._process is not None:
            clean = self._end_process(self._process)
        if self._output is not None:
            self._output.close()
        if self._token is not None:
            self._token.release()
        self._process = self._token = None
        return clean

    def kill(self) -> None:
        """End a Triton that no longer obeys, with all its stages, and leave nothing behind."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self.stop()

    def tidy_shared_memory(self) -> None:
        """After models were loaded anew: remove the regions of those that are gone, close the new ones."""
        if self._token is not None and (pid := self.pid) is not None:
            self._token.remove_regions_but(mapped_files(pid, SHARED_MEMORY))
            self._token.close_to_others()

    def last_words(self) -> str:
        """What Triton last said about a failure, with a hint where one is known."""
        return self._output.explanation() if self._output else ""

    def __enter__(self) -> EmbeddedTriton:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, command: list[str], environment: dict[str, str]) -> None:
        assert self._token is not None
        with lifeline() as (ends, told):
            self._process = subprocess.Popen(
                command,
                env=environment | told,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=self._token.run_folder,
                start_new_session=True,  # Ctrl-C in a terminal is for us, who then stop Triton in order
                pass_fds=(self._token.lock_fd, *ends),
            )
        assert self._process.stdout is not None
        self._output = OutputTail(
            self._process.stdout,
            self.options.log_file,
            quiet=self.options.log_level in ("error", "warning"),
            as_json=self.options.log_format == "json",
        )

    def _wait_until_ready(self, deadline: float, entries: Sequence[Entry]) -> None:
        assert self._token is not None
        try:
            wait_until_live(self.grpc_url, deadline=deadline, check=self._check_alive)
            self._token.close_to_others()
            run_canary(
                self.grpc_url,
                timeout_s=max(1.0, deadline - time.monotonic()),
                check=self._check_alive,
                entries=entries,
            )
            wait_until_open(self.options, deadline=deadline, check=self._check_alive)
        except CanaryError as error:
            raise CanaryError(f"{error}\n{self.last_words()}".rstrip()) from None

    def _check_alive(self) -> None:
        assert self._process is not None and self._output is not None
        if self._stop_requested:
            raise StopRequested("The start was given up.")
        if (code := self._process.poll()) is not None:
            self._output.close()
            raise StartError(
                f"Triton ended with exit code {code} while starting. Its last words:\n{self.last_words()}"
            )

    def _end_process(self, process: subprocess.Popen[str]) -> bool:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        clean = self._wait_for_end(process, time.monotonic() + self.options.stop_timeout_s + 5.0)
        with contextlib.suppress(ProcessLookupError):  # the stubs share Triton's session; none may outlive it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return clean

    def _wait_for_end(self, process: subprocess.Popen[str], deadline: float) -> bool:
        """Wait for a Triton that was told to stop; False if it had not done all it could by `deadline`.

        Where a request was in a stage that died, Triton waits in vain for its answer to be counted. But its
        stages end only when no request is in them: when the last has gone, there is nothing to wait for.
        """
        had_stages, idle_since = bool(stubs_of(process.pid)), time.monotonic()
        while process.poll() is None:
            now = time.monotonic()
            if not had_stages or stubs_of(process.pid):
                idle_since = now
            elif now - idle_since > _LINGER_S:
                return True
            if now > deadline:
                return False
            time.sleep(POLL_S)
        return True

    @staticmethod
    def _url(host: str, port: int) -> str:
        reachable = _ANY_ADDRESS.get(host, host)
        return f"[{reachable}]:{port}" if ":" in reachable and "[" not in reachable else f"{reachable}:{port}"
