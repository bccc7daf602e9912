"""What Locust runs: users that send volumes over gRPC, by schedule (open loop) or as callers (closed loop).

Started by `load.generator`, once or as a master with workers. Importing Locust patches the process for
gevent; gRPC has its own switch for that, without which one waiting call stops all users.
"""

from __future__ import annotations

# ruff: noqa: E402, I001 - Locust first: it patches what everything else imports
from locust import LoadTestShape, User, events, runners, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

import grpc.experimental.gevent

grpc.experimental.gevent.init_gevent()

import itertools
import json
import random
import time
from dataclasses import asdict
from typing import Any

import gevent
import gevent.event
import gevent.pool

from load.arrivals import phase_at, schedule
from load.records import Record, write_records
from load.sender import Sender
from load.task import Task
from load.volumes import samples_of

LEAD_S, ALONE_LEAD_S = 3.0, 1.0
"""Between the order to begin and the first arrival, so that every worker has its users by then; without
workers."""
TASK = Task.read()
WORKLOAD = TASK.workload()
LATEST_S = WORKLOAD.seconds + WORKLOAD.timeout_s + 10.0
"""By then every request has met its deadline."""
runners.WORKER_REPORT_INTERVAL = 1.0
SAMPLES = samples_of(WORKLOAD.volumes, TASK.cache)


class Process:
    """This process: its connection, what it has sent, and the moment at which the run begins.

    Of several workers, each sends every n-th arrival of the schedule, beginning with its own place.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.sender = Sender(TASK.target, WORKLOAD, SAMPLES)
        if problem := self.sender.warm_up():
            print(f"before the run: {problem}", flush=True)  # the run will show it, in its errors
        self.begins_at = 0.0
        self.idle_workers: dict[str, bool] = {}
        self._begun = gevent.event.Event()
        self._place, self._of = 0, 1
        self._under_way = 0

    def begin(self, at: float, place: int = 0, of: int = 1, capacity_per_s: float | None = None) -> None:
        """The run begins at a moment of the wall clock; `capacity_per_s` is the master's load 1."""
        self._place, self._of, self._capacity_per_s = place, of, capacity_per_s
        self._numbers = itertools.count(place, of)
        self._random = random.Random(WORKLOAD.seed + place)
        self.sender.worker, self.begins_at = place, at
        self.sender.begin(at - time.time())
        self._begun.set()

    def play(self, environment: Any) -> None:
        """Open loop: send what is due when it is due, then wait for the last answer."""
        self._begun.wait()
        sending = gevent.pool.Group()
        arrivals = schedule(TASK.workload(self._capacity_per_s), [sample.weight for sample in SAMPLES])
        mine = range(self._place, len(arrivals), self._of)
        self._under_way = len(mine)
        for number in mine:
            arrival = arrivals[number]
            gevent.sleep(max(0.0, arrival.due_s - self.sender.now()))
            sending.spawn(self._send, environment, number, arrival.phase, arrival.volume, arrival.due_s)
        sending.join()

    def call(self, environment: Any, due_s: float) -> float:
        """Closed loop: one volume, which was due a pause after the last; when its caller's next is due."""
        gevent.sleep(max(0.0, due_s - self.sender.now()))
        if self.sender.now() >= WORKLOAD.seconds:
            raise StopUser
        self._under_way += 1
        phase = phase_at(WORKLOAD.phases, self.sender.now())
        (volume,) = self._random.choices(range(len(SAMPLES)), [sample.weight for sample in SAMPLES])
        self._send(environment, next(self._numbers), phase, volume, due_s)
        return self.sender.now() + WORKLOAD.phases[phase].think_s

    def arrival_s(self) -> float:
        """When a caller who comes now may begin."""
        self._begun.wait()
        return max(0.0, self.sender.now())

    @property
    def idle(self) -> bool:
        """Whether the run is over and every answer is there: of this process, or of all workers."""
        if self.idle_workers:
            return all(self.idle_workers.values())
        return self._begun.is_set() and self.sender.now() >= WORKLOAD.seconds and self._under_way == 0

    def _send(self, environment: Any, number: int, phase: int, volume: int, due_s: float | None) -> None:
        """One volume; it is noted here and in Locust's own statistics."""
        record = self.sender.send(number, phase, volume, due_s)
        self.records.append(record)
        self._under_way -= 1
        failure = None if record.ok else RuntimeError(f"{record.outcome} {record.code}".strip())
        environment.events.request.fire(
            request_type=WORKLOAD.phases[phase].name,
            name=record.kind,
            response_time=1000 * record.latency_s,
            response_length=0,
            exception=failure,
            context={},
        )


PROCESS = Process()


class Sending(User):
    """The one user of a process in an open loop, one caller of many in a closed one."""

    _due_s = 0.0

    @task
    def send(self) -> None:
        """All arrivals of this process, or one volume."""
        if WORKLOAD.is_open:
            PROCESS.play(self.environment)
            raise StopUser
        self._due_s = PROCESS.call(self.environment, self._due_s)

    def on_start(self) -> None:
        """A caller's first volume is due when the caller comes, or when the run begins."""
        self._due_s = PROCESS.arrival_s()


class Phases(LoadTestShape):
    """How many users there are: as many as processes, or as the phase has callers. Ends the run, once all
    answers are in: Locust itself would not wait for those that its workers still wait for."""

    def tick(self) -> tuple[int, float] | None:
        """Users, and how many to start per second; None when the last phase is over."""
        elapsed_s = time.time() - PROCESS.begins_at if PROCESS.begins_at else 0.0
        if elapsed_s >= WORKLOAD.seconds and (PROCESS.idle or elapsed_s >= LATEST_S):
            return None
        callers = WORKLOAD.phases[phase_at(WORKLOAD.phases, elapsed_s)].callers
        users = callers or max(1, getattr(self.runner, "worker_count", 1))
        return users, float(users)


@events.init.add_listener
def _on_init(environment: Any, **_: Any) -> None:
    runner = environment.runner
    if isinstance(runner, MasterRunner):
        environment.events.worker_report.add_listener(_take_over)
    if isinstance(runner, WorkerRunner):
        runner.register_message("begin", _begin)
        environment.events.report_to_master.add_listener(_hand_over)


@events.test_start.add_listener
def _on_start(environment: Any, **_: Any) -> None:
    runner = environment.runner
    at = time.time() + (LEAD_S if isinstance(runner, MasterRunner) else ALONE_LEAD_S)
    if isinstance(runner, MasterRunner):
        PROCESS.begins_at = at
        ready = [client.id for client in runner.clients.ready]
        for place, client in enumerate(ready):
            order = {"at": at, "place": place, "of": len(ready), "capacity_per_s": TASK.capacity_per_s}
            runner.send_message("begin", {"workload": TASK.fingerprint(), "order": order}, client)
    elif not isinstance(runner, WorkerRunner):
        PROCESS.begin(at)


@events.quitting.add_listener
def _on_quitting(environment: Any, **_: Any) -> None:
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        return
    write_records(TASK.results / "records.csv", PROCESS.records)
    workers = runner.worker_index_max if isinstance(runner, MasterRunner) else 0
    begun = {"begins_at": PROCESS.begins_at, "workers": workers}
    (TASK.results / "begun.json").write_text(json.dumps(begun) + "\n", "utf-8")


def _begin(environment: Any, msg: Any, **_: Any) -> None:
    """A worker's order to begin. With another workload than the master's it sends nothing, which shows."""
    if msg.data["workload"] != TASK.fingerprint():
        print("this worker has another workload than the master: it sends nothing", flush=True)
        return
    PROCESS.begin(**msg.data["order"])


def _hand_over(client_id: str, data: dict[str, Any], **_: Any) -> None:
    data["idle"] = PROCESS.idle
    data["records"] = [asdict(record) for record in PROCESS.records]
    PROCESS.records.clear()


def _take_over(client_id: str, data: dict[str, Any], **_: Any) -> None:
    PROCESS.idle_workers[client_id] = data.get("idle", False)
    PROCESS.records.extend(Record(**each) for each in data.get("records", []))
