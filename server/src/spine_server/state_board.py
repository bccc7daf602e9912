"""What the supervisor knows, where others can read it: a file that the model `attendant` answers from, and a
page on a port of its own (`status_page`), which stays open while Triton is down.

=================================================  =========================================================
``spineserve_supervisor_ready``                     1 while the server and all its models are able to work
``spineserve_supervisor_crash_loop``                1 while restarts are slowed down
``spineserve_supervisor_restarts_total``            restarts of Triton
``spineserve_supervisor_reloads_total{model}``      models brought back by loading them anew
``spineserve_supervisor_model_up{model}``           0 from a model's failure to its recovery
``spineserve_supervisor_last_recovery_seconds``     from the failure being noticed to the answer that ended it
=================================================  =========================================================
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from spine_server.state_file import STATE_FILE
from spine_server.status_page import Page, serve_page

STUCK_AFTER_S = 30.0
"""A supervisor that has not come round for so long is stuck, unless it is starting a Triton."""
_PATIENT: frozenset[str] = frozenset({"starting", "restarting", "backing_off", "stopping"})
Status = Literal["starting", "ready", "reloading", "restarting", "backing_off", "gave_up", "stopping"]
_PREFIX = "spineserve_supervisor_"


class StateBoard:
    """The supervisor's state; every change is written out at once."""

    def __init__(self) -> None:
        self.status: Status = "starting"
        self.last_event = ""
        self.restarts = 0
        self.reloads: dict[str, int] = {}
        self.last_recovery_s: float | None = None
        self._since = time.time()
        self._beat = time.monotonic()
        self._folder: Path | None = None
        self._models: Sequence[str] = ()
        self._registry = CollectorRegistry()
        self._ready = self._gauge("ready", "Whether server and models are able to work")
        self._looping = self._gauge("crash_loop", "Whether restarts are slowed down")
        self._recovery = self._gauge("last_recovery_seconds", "From the last failure noticed to its end")
        self._up = self._gauge("model_up", "Whether a model is able to work", "model")
        self._restarted = Counter(f"{_PREFIX}restarts", "Restarts of Triton", registry=self._registry)
        self._reloaded = Counter(
            f"{_PREFIX}reloads", "Models loaded anew", ["model"], registry=self._registry
        )

    def serve(self, host: str, port: int) -> int:
        """Answer on `port` (0: any free one) until the process ends; the port."""
        return serve_page(self._pages, host, port)

    def beat(self) -> None:
        """The supervisor has come round."""
        self._beat = time.monotonic()

    def is_alive(self) -> bool:
        """Whether the supervisor does its work, whatever its Triton does."""
        came_round = time.monotonic() - self._beat < STUCK_AFTER_S
        return self.status in _PATIENT or (came_round and self.status != "gave_up")

    def _pages(self, path: str) -> Page | None:
        if path == "/metrics":
            return True, generate_latest(self._registry)
        good = {"/live": self.is_alive(), "/ready": self.status == "ready"}
        return (good[path], f"{json.dumps(self.to_dict())}\n".encode()) if path in good else None

    def watch(self, models: Sequence[str], folder: Path) -> None:
        """Tell of `models` from now on, and write the state into `folder`."""
        self._models, self._folder = models, folder
        for model in models:
            self._up.labels(model=model).set(1)
            self._reloaded.labels(model=model)
        self._write()

    def set_status(self, status: Status, event: str = "") -> None:
        """Change the status; `event` says in a sentence why."""
        self.status, self._since = status, time.time()
        self.beat()
        self.last_event = event or self.last_event
        self._ready.set(status == "ready")
        self._looping.set(status in ("backing_off", "gave_up"))
        for model in self._models if status in ("restarting", "backing_off", "gave_up") else ():
            self._up.labels(model=model).set(0)
        self._write()

    def model_failed(self, model: str, event: str) -> None:
        """A model cannot work; it is being loaded anew."""
        self._up.labels(model=model).set(0)
        self.set_status("reloading", event)

    def model_recovered(self, model: str, seconds: float) -> None:
        """A model that had failed has answered again."""
        self.reloads[model] = self.reloads.get(model, 0) + 1
        self._reloaded.labels(model=model).inc()
        self._up.labels(model=model).set(1)
        self._recovered(seconds)

    def server_recovered(self, seconds: float) -> None:
        """A new Triton answers."""
        self.restarts += 1
        self._restarted.inc()
        self._recovered(seconds)

    def to_dict(self) -> dict[str, Any]:
        """The state, as `spine health --deep` shows it."""
        return {
            "supervised": True,
            "status": self.status,
            "since": round(self._since, 1),
            "restarts": self.restarts,
            "reloads": dict(sorted(self.reloads.items())),
            "last_event": self.last_event,
            "last_recovery_s": self.last_recovery_s,
        }

    def _recovered(self, seconds: float) -> None:
        self.last_recovery_s = round(seconds, 2)
        self._recovery.set(seconds)
        self.set_status("ready")

    def _gauge(self, name: str, description: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, description, labels, registry=self._registry)

    def _write(self) -> None:
        if self._folder is None or not self._folder.is_dir():
            return
        partial = self._folder / f".{STATE_FILE}"
        partial.write_text(json.dumps(self.to_dict()), encoding="utf-8")
        partial.replace(self._folder / STATE_FILE)
