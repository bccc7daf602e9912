"""One replica in simulated time: pools of instances with Triton's queue policy, on cores that they share.

A study's way is a tuple of steps. The simulated parts are driven by callbacks: thousands of replicas, hence
millions of steps, are to be simulated within a minute.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from planning.clock import Clock
from planning.topology import Pool


class Kind(IntEnum):
    """What a step does."""

    TAKE = 0
    WORK = 1
    GIVE = 2
    PAUSE = 3


_TAKE, _WORK, _GIVE = int(Kind.TAKE), int(Kind.WORK), int(Kind.GIVE)
"""Looking them up in `Kind` takes as long as the rest of a step."""


class Step(NamedTuple):
    """A step on a study's way.

    Attributes
    ----------
    which : pool for TAKE and GIVE, processor for WORK
    seconds : of work, alone on the processor; of pause
    threads : that work at the same time, for WORK
    """

    kind: Kind
    which: int = 0
    seconds: float = 0.0
    threads: int = 1


Way = tuple[Step, ...]


class End(IntEnum):
    """How an attempt, and in the end a study, came to its end."""

    ANSWERED = 0
    FULL = 1
    """A queue was full."""
    WAITED = 2
    """Triton's queue timeout."""
    DEADLINE = 3
    """The caller's own deadline."""
    BROKEN = 4
    """The replica was lost, or there was none."""
    ELSEWHERE = 5
    """It went to a replica of the fleet that is not simulated."""


@dataclass(slots=True, eq=False)
class Study:
    """One study on its way. Moments are of the simulated clock, in seconds."""

    number: int
    way: Way
    arrived_s: float
    deadline_s: float
    attempts: int = 0
    at: int = 0


Ended = Callable[[Study, End], None]


class Host:
    """A machine with replicas that have cores of their own, and share its caches and its memory.

    Parameters
    ----------
    slowdown : how many times longer work takes while one other replica of the machine is busy; each further
        one adds as much
    """

    def __init__(self, slowdown: float = 1.0) -> None:
        self._each = slowdown - 1.0
        self._busy: dict[Processor, None] = {}

    def factor(self, processor: Processor) -> float:
        """How many times longer `processor`, which is busy, takes now."""
        return 1.0 + self._each * sum(other is not processor for other in self._busy)

    def changed(self, processor: Processor, *, busy: bool) -> None:
        """`processor` has begun to work, or has no more work."""
        if not self._each:
            return
        if busy:
            self._busy[processor] = None
        else:
            self._busy.pop(processor, None)
        for other in self._busy:
            if other is not processor:
                other.plan_anew()


class Processor:
    """Cores that all work on them shares evenly, as under a fair scheduler: processor sharing.

    Parameters
    ----------
    capacity : threads that run at full speed at the same time
    finished : told of each piece of work that is done
    host : the machine, where it is shared with other replicas
    """

    def __init__(
        self,
        clock: Clock,
        capacity: float,
        finished: Callable[[Study], None],
        host: Host | None = None,
    ) -> None:
        self._clock, self._capacity, self._finished, self._host = clock, capacity, finished, host
        self._work: list[tuple[float, int, Study, int]] = []
        self._threads = self._added = self._plans = 0
        self._virtual = self._last = self.busy_s = 0.0
        self._rate = 1.0
        self._finishing = False

    def add(self, study: Study, seconds: float, threads: int) -> None:
        """Begin work that takes `seconds` where nothing else runs."""
        self._advance()
        if self._host is not None and not self._work:
            self._host.changed(self, busy=True)
        self._added += 1
        heapq.heappush(self._work, (self._virtual + seconds, self._added, study, threads))
        self._threads += threads
        if not self._finishing:
            self._plan()

    def clear(self) -> None:
        """Drop all work."""
        self._work.clear()
        self._threads = 0
        self._plans += 1
        if self._host is not None:
            self._host.changed(self, busy=False)

    def plan_anew(self) -> None:
        """A neighbour has become busy or idle."""
        self._advance()
        self._plan()

    def _advance(self) -> None:
        """All work of one processor proceeds at one rate, so one virtual clock tells when each is done."""
        now = self._clock.now
        if self._work:
            passed = now - self._last
            self._virtual += passed * self._rate
            self.busy_s += passed * (self._threads if self._threads < self._capacity else self._capacity)
        self._last = now

    def _plan(self) -> None:
        """Have `_due` called when the next piece of work is done; earlier plans are void."""
        self._plans += 1
        if not self._work:
            return
        self._rate = 1.0 if self._threads <= self._capacity else self._capacity / self._threads
        if self._host is not None:
            self._rate /= self._host.factor(self)
        delay_s = (self._work[0][0] - self._virtual) / self._rate
        self._clock.later(delay_s if delay_s > 0.0 else 0.0, self._due, self._plans)

    def _due(self, plan: int) -> None:
        if plan != self._plans:
            return
        self._advance()
        until, _, study, threads = heapq.heappop(self._work)
        if self._virtual < until:  # rounding must not leave it short
            self._virtual = until
        self._threads -= threads
        self._finishing = True
        self._finished(study)
        self._finishing = False
        if self._host is not None and not self._work:
            self._host.changed(self, busy=False)
        self._plan()


@dataclass(slots=True)
class _Queue:
    pool: Pool
    free: int
    laid_ready: deque[Study] = field(default_factory=deque)
    waiting: deque[tuple[float, Study]] = field(default_factory=deque)


class Replica:
    """Takes studies, works on them, and tells how each attempt ended.

    Parameters
    ----------
    cores, gpus : what its stages share
    host : the machine whose memory it shares with other replicas; None: it has a machine of its own
    max_in_flight : more studies are refused at the door, by the gate; None: there is no gate
    """

    CPU, GPU = 0, 1

    def __init__(
        self,
        clock: Clock,
        pools: tuple[Pool, ...],
        *,
        cores: float,
        ended: Ended,
        gpus: int = 1,
        host: Host | None = None,
        max_in_flight: int | None = None,
    ) -> None:
        self._clock, self._ended, self._max_in_flight = clock, ended, max_in_flight
        self._queues = [_Queue(pool, pool.instances) for pool in pools]
        self._processors = (Processor(clock, cores, self._go, host), Processor(clock, gpus, self._go))
        self._studies: dict[Study, None] = {}
        self.lost = False

    @property
    def in_flight(self) -> int:
        """Studies in it."""
        return len(self._studies)

    @property
    def waiting(self) -> int:
        """Requests that wait before its stages."""
        return sum(len(queue.waiting) + len(queue.laid_ready) for queue in self._queues)

    @property
    def busy_s(self) -> float:
        """Core-seconds of work so far."""
        return self._processors[self.CPU].busy_s

    def accept(self, study: Study) -> None:
        """Begin a study, or refuse it."""
        if self._max_in_flight is not None and self.in_flight >= self._max_in_flight:
            self._ended(study, End.FULL)
            return
        study.at = 0
        self._studies[study] = None
        if not self.lost:  # a lost replica takes what is sent to it, and never answers
            self._go(study)

    def lose(self) -> None:
        """Stop dead. Callers notice when `break_off` is called."""
        self.lost = True
        for processor in self._processors:
            processor.clear()

    def break_off(self) -> None:
        """End all attempts in a lost replica: the connection is known to be gone."""
        broken = list(self._studies)
        self._studies.clear()
        for study in broken:
            self._ended(study, End.BROKEN)

    def _go(self, study: Study) -> None:
        """Take steps until one has to wait."""
        way, late, steps = study.way, self._clock.now > study.deadline_s, len(study.way)
        if late and study.at < steps:
            self._drop(study, End.DEADLINE)
            return
        while study.at < steps:
            step = way[study.at]
            kind = step.kind
            if kind == _TAKE:
                queue = self._queues[step.which]
                if not queue.free:
                    self._wait(study, queue)
                    return
                queue.free -= 1
                study.at += 1
                continue
            study.at += 1
            if kind == _GIVE:
                self._give(self._queues[step.which])
            elif kind == _WORK:
                self._processors[step.which].add(study, step.seconds, step.threads)
                return
            else:
                self._clock.later(step.seconds, self._resume, study)
                return
        self._leave(study, End.DEADLINE if late else End.ANSWERED)

    def _resume(self, study: Study) -> None:
        if study in self._studies and not self.lost:
            self._go(study)

    def _wait(self, study: Study, queue: _Queue) -> None:
        """All instances are taken: it waits, or is refused."""
        pool = queue.pool
        if len(queue.laid_ready) < pool.prefetched:
            queue.laid_ready.append(study)
        elif pool.max_waiting is not None and len(queue.waiting) >= pool.max_waiting:
            self._drop(study, End.FULL)
        else:
            queue.waiting.append((self._clock.now, study))

    def _give(self, queue: _Queue) -> None:
        """An instance is free: the next takes it."""
        queue.free += 1
        while queue.free:
            if queue.waiting:
                self._lay_ready(queue)
            if not queue.laid_ready:
                return
            self._go(queue.laid_ready.popleft())

    def _lay_ready(self, queue: _Queue) -> None:
        """Fill the places before the instances, and the one that is about to be free."""
        while queue.waiting and len(queue.laid_ready) <= queue.pool.prefetched:
            since, study = queue.waiting.popleft()
            if queue.pool.timeout_s is not None and self._clock.now - since > queue.pool.timeout_s:
                self._drop(study, End.WAITED)
            else:
                queue.laid_ready.append(study)

    def _drop(self, study: Study, end: End) -> None:
        """End an attempt on its way; what it holds is given back."""
        held: list[int] = []
        for step in study.way[: study.at]:
            if step.kind == Kind.TAKE:
                held.append(step.which)
            elif step.kind == Kind.GIVE:
                held.remove(step.which)
        self._leave(study, end)
        for which in held:
            self._give(self._queues[which])

    def _leave(self, study: Study, end: End) -> None:
        del self._studies[study]
        self._ended(study, end)
