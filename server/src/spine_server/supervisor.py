"""Keeps Triton able to work: notices what died or hangs, brings it back, and says so.

Noticed how                                         Brought back how
--------------------------------------------------  ---------------------------------------------------------
a stage's process is dead (a zombie in ``/proc``)   its model is loaded anew, the others work on
a stage's process is stopped (SIGSTOP)              it is killed, its model is loaded anew
a canary inference at a model fails                 the model's processes are killed, it is loaded anew
a model has answered nothing for its deadline       the same, networks before the stages that wait for them
Triton has ended, is stopped, or does not answer    it is killed with all its stages and started again
loading anew fails, or does not help in time        the same
Triton fails again and again                        restarts after 0, 1, 2, 4 … s; then it is given up

The kernel is asked four times a second, which costs nothing; canaries go only to models that have answered
nobody since the last look, from a thread of their own (`lookout`).

Loading anew may take `reload_timeout_s`, or as long as Triton's start took where that was longer, for then a
restart would be no faster. So what a reload does not bring back is back, by a restart, after about twice the
time of a start.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from spine_server.backoff import Backoff
from spine_server.control import ControlError
from spine_server.embedded import EmbeddedTriton
from spine_server.errors import ServerError, StopRequested
from spine_server.lookout import SERVER, Lookout
from spine_server.options import ServerOptions, SupervisionOptions
from spine_server.processes import Stub, is_dead, is_held, process_state, stubs_of
from spine_server.repository import default_repository, stage_models
from spine_server.state_board import StateBoard

TICK_S = 0.25
_MOST_RELOADS = 3
"""Of one model within five minutes; after that the server is restarted."""

Say = Callable[[str], None]


class StopRequest:
    """As `threading.Event`, for one waiter, and `set` may come from a signal handler.

    The handler runs in the thread that waits, perhaps while that holds an Event's lock, and would wait for it
    for ever. A SimpleQueue can be put to again in the middle of its own methods.
    """

    def __init__(self) -> None:
        self._requested = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Ask for the stop."""
        self._requested = True
        self._wake.put(None)

    def is_set(self) -> bool:
        """Whether it was asked for."""
        return self._requested

    def wait(self, timeout_s: float) -> bool:
        """Until it is asked for, at most `timeout_s`; whether it was."""
        if not self._requested:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=timeout_s)
        return self._requested


class Supervisor:
    """One Triton after the other under the same ports, each watched until it has to go.

    `start`, then `run` until it returns, then `stop`. All in the main thread: the kernel ends Triton with the
    thread that started it.

    Parameters
    ----------
    say : is told each event in a sentence

    Raises
    ------
    PreconditionError, StartError, CanaryError, StopRequested
        From `start`, as `EmbeddedTriton.start` does: what does not start the first time is not tried again.
    """

    def __init__(self, options: ServerOptions, supervision: SupervisionOptions, *, say: Say) -> None:
        self.server = EmbeddedTriton(options, controlled=True)
        self.board = StateBoard()
        self.last_words = ""
        """Of the Triton that ended last."""
        self._options = supervision
        self._say = say
        self._stop_requested = StopRequest()
        self._restarts = Backoff(supervision.max_restarts)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="supervisor")
        self._work: Future[str | None] | None = None

    def start(self) -> None:
        """Start the first Triton; ready when it returns."""
        repository = self.server.options.repository or default_repository()
        self._models = stage_models(repository, self.server.options.profile)
        self.server.start()
        self._ready()

    def request_stop(self) -> None:
        """Make `start` or `run` return soon. Safe to call from a signal handler or another thread."""
        self._stop_requested.set()
        self.server.request_stop()

    def run(self) -> bool:
        """Watch until a stop is requested (True), or until there is no further restart (False)."""
        while not self._stop_requested.is_set():
            self.board.beat()
            if (trouble := self._server_trouble() or self._work_done()) is not None:
                if not self._restart(trouble):
                    return self._stop_requested.is_set()
            elif self._work is None:
                self._work = self._next_work()
            self._stop_requested.wait(TICK_S)
        return True

    def stop(self) -> bool:
        """Stop serving in order; False if Triton had to be killed."""
        if self.board.status != "gave_up":
            self.board.set_status("stopping")
        clean = self.server.stop()
        self._lookout.close()
        self._worker.shutdown(wait=False, cancel_futures=True)
        return clean

    def _ready(self) -> None:
        """Begin to watch a Triton that has just started; nothing is known of it yet."""
        assert self.server.pid is not None
        self._stubs: list[Stub] = stubs_of(self.server.pid)
        self._held_since: dict[int, float] = {}
        self._reloads: dict[str, Backoff] = {}
        self._silent: str | None = None
        self._work = None
        self._lookout = Lookout(self.server.grpc_url, self._models, self._options)
        self.board.watch(self._models, self.server.run_folder)
        self.board.set_status("ready")

    def _server_trouble(self) -> str | None:
        """Why Triton itself has to go, or None."""
        if (code := self.server.exit_code) is not None:
            return f"Triton ended by itself (exit code {code})"
        assert self.server.pid is not None
        if self._held(self.server.pid, process_state(self.server.pid)):
            return "Triton's process stands stopped"
        return self._silent

    def _held(self, pid: int, state: str) -> bool:
        """Whether a process stands stopped for too long."""
        if not is_held(state):
            self._held_since.pop(pid, None)
            return False
        since = self._held_since.setdefault(pid, time.monotonic())
        return time.monotonic() - since > self._options.held_after_s

    def _work_done(self) -> str | None:
        """Why a reload that has ended makes a restart necessary; None where it does not."""
        if self._work is None or not self._work.done():
            return None
        work, self._work = self._work, None
        return work.result()

    def _next_work(self) -> Future[str | None] | None:
        for stub in self._stubs:
            state = stub.state
            if is_dead(state):
                return self._worker.submit(self._revive, stub.model, f"{stub.model}: a process has died")
            if self._held(stub.pid, state):
                return self._worker.submit(self._revive, stub.model, f"{stub.model}: a process is stopped")
        found = self._lookout.poll()
        self._silent = found.pop(SERVER, "").rstrip(".") or None
        for model, trouble in found.items():
            return self._worker.submit(self._revive, model, trouble, kill=True)
        return None

    def _revive(self, model: str, trouble: str, *, kill: bool = False) -> str | None:
        """Load a model anew; why that did not help, or None where it did."""
        began = time.monotonic()
        reloads = self._reloads.setdefault(model, Backoff(_MOST_RELOADS))
        reloads.failed()
        self._say(f"{trouble.rstrip('.')}; loading {model} anew")
        self.board.model_failed(model, trouble)
        if reloads.exhausted:
            return f"{model} has failed {reloads.failures} times in five minutes"
        try:
            allowed_s = max(self._options.reload_timeout_s, self.server.started_in_s)
            self._reload(model, kill=kill, deadline=began + allowed_s)
        except ControlError as error:
            return f"{model} could not be loaded anew: {error}".rstrip(".")
        seconds = time.monotonic() - began
        self.board.model_recovered(model, seconds)
        self._say(f"{model} works again after {seconds:.1f} s")
        return None

    def _reload(self, model: str, *, kill: bool, deadline: float) -> None:
        server = self.server
        control, pid = server.control, server.pid
        if control is None or pid is None:
            raise ControlError("there is no model control beside --http-port")
        old = [stub for stub in stubs_of(pid) if stub.model == model]
        for stub in old:
            if kill or is_held(stub.state):
                stub.kill()
        control.reload(model, timeout_s=deadline - time.monotonic())
        while problem := self._lookout.at(model):
            if time.monotonic() > deadline or server.pid != pid:
                raise ControlError(problem)
            time.sleep(TICK_S)
        server.tidy_shared_memory()
        # Those that the new ones replace are let go when they have finished: that is no death.
        self._stubs = [stub for stub in stubs_of(pid) if stub not in old]
        self._lookout.start_over()  # the others may have suffered with it

    def _restart(self, trouble: str) -> bool:
        """Put a new Triton into the place of this one; False where that is given up."""
        began = time.monotonic()
        while trouble:
            self.last_words = self.server.last_words()
            self.server.kill()
            self._lookout.close()
            if self._work is not None:  # with Triton gone it ends soon, and must not touch the next one
                wait([self._work], timeout=self._options.reload_timeout_s)
            self._restarts.failed()
            if self._restarts.exhausted:
                self.board.set_status("gave_up", trouble)
                self._say(f"{trouble}; failed {self._restarts.failures} times in five minutes, giving up")
                return False
            if not self._pause(trouble):
                return False
            trouble = self._start_again()
        if self._stop_requested.is_set():
            return False
        self._ready()
        self.board.server_recovered(time.monotonic() - began)
        self._say(f"Triton works again after {time.monotonic() - began:.1f} s")
        return True

    def _pause(self, trouble: str) -> bool:
        """Wait as long as the failures so far ask for; False if a stop was requested meanwhile."""
        pause_s = self._restarts.pause_s
        self.board.set_status("backing_off" if pause_s else "restarting", trouble)
        self._say(f"{trouble}; restarting " + (f"after {pause_s:g} s (crash loop)" if pause_s else "at once"))
        return not self._stop_requested.wait(pause_s)

    def _start_again(self) -> str:
        """Start a new Triton on the same ports; why it failed, or nothing."""
        self.server = EmbeddedTriton(self.server.options, controlled=True)
        if self._stop_requested.is_set():
            self.server.request_stop()
        try:
            self.server.start()
        except StopRequested:
            return ""
        except ServerError as error:
            return f"Triton did not start again: {error}".rstrip(".")
        return ""
