"""A fleet in simulated time: round robin, the SDK's retries, replicas that start, drain and are lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planning.clock import Clock
from planning.replica import End, Ended, Replica, Study
from spine_client import RetryPolicy

FULL_PAUSE_S = 1.0
"""The SDK waits so much longer where a server says that it is full."""


@dataclass(frozen=True, kw_only=True)
class Delays:
    """What takes time in a cluster, in seconds.

    Attributes
    ----------
    start_s : from a pod's creation until it answers: a node, the image, the engine, the models, the canary
    join_s : until callers know of it: little behind a proxy; up to `gate.maxConnectionAgeSeconds` for callers
        that balance themselves
    notice_s : until callers know that a replica is gone: the SDK's keep-alive
    replace_s : until Kubernetes makes a pod anew after its node was lost: its own defaults, 40 s to notice
        and 300 s of toleration
    """

    start_s: float = 90.0
    join_s: float = 0.0
    notice_s: float = 20.0
    replace_s: float = 340.0


class _Member:
    """A replica and its life: created, serving, gone."""

    def __init__(self, replica: Replica, created_s: float) -> None:
        self.replica, self.created_s = replica, created_s
        self.gone_s: float | None = None
        self.leaving = self.hole = False


class Fleet:
    """Replicas behind round robin.

    Parameters
    ----------
    build : makes a replica, given who is told how its attempts end
    count : replicas that serve from the start
    ended : told how each study ended, once
    taken_over : of a lost replica's turns, the share that the others simulated take over; the rest goes to
        those of the fleet that are not simulated. What was in it is tried again here in any case
    """

    def __init__(
        self,
        clock: Clock,
        build: Callable[[Ended], Replica],
        count: int,
        *,
        delays: Delays,
        retry: RetryPolicy,
        rng: np.random.Generator,
        ended: Callable[[Study, End], None],
        taken_over: float = 1.0,
    ) -> None:
        self._clock, self._build, self._delays, self._retry = clock, build, delays, retry
        self._rng, self._tell, self._taken_over = rng, ended, taken_over
        self._members: list[_Member] = []
        self._rotation: list[_Member] = []
        self._draining: list[_Member] = []
        self._turn = 0
        self.wanted = count
        for _ in range(count):
            self._serve(self._create())

    @property
    def in_flight(self) -> int:
        """Studies in all replicas, those that drain included."""
        return sum(member.replica.in_flight for member in self._living() if not member.replica.lost)

    @property
    def waiting(self) -> int:
        """Requests in the queues of all stages."""
        return sum(member.replica.waiting for member in self._living() if not member.replica.lost)

    @property
    def serving(self) -> int:
        """Replicas that can answer."""
        return sum(not member.replica.lost for member in self._rotation)

    def replica_seconds(self) -> float:
        """From creation to end, starting and draining included: what is paid for."""
        now = self._clock.now
        return sum((now if m.gone_s is None else m.gone_s) - m.created_s for m in self._members)

    def busy_seconds(self) -> float:
        """Core-seconds of work."""
        return sum(member.replica.busy_s for member in self._members)

    def send(self, study: Study) -> None:
        """One attempt, at the replica whose turn it is."""
        study.attempts += 1
        if not self._rotation:
            self._attempt_ended(study, End.BROKEN)
            return
        self._turn = (self._turn + 1) % len(self._rotation)
        member = self._rotation[self._turn]
        if not member.hole:
            member.replica.accept(study)
            return
        others = [other.replica for other in self._rotation if not other.hole]
        if others and (study.attempts > 1 or self._rng.uniform() < self._taken_over):
            others[int(self._rng.integers(len(others)))].accept(study)
        else:
            self._tell(study, End.ELSEWHERE)

    def resize(self, count: int) -> None:
        """Have `count` replicas: new ones start, the youngest leave and finish what they have."""
        while self.wanted < count:
            self.wanted += 1
            self._after(self._delays.start_s + self._delays.join_s, self._create())
        staying = [member for member in self._living() if not member.leaving]
        while self.wanted > count:
            self.wanted -= 1
            self._let_go(staying.pop())

    def lose(self, count: int) -> None:
        """`count` replicas vanish with their node; callers notice later, and Kubernetes later still."""
        for member in [member for member in self._rotation if not member.replica.lost][:count]:
            member.replica.lose()
            self._clock.later(self._delays.notice_s, self._noticed, member)
            if not member.leaving:
                self._clock.later(self._delays.replace_s, self._replace, member)

    def _living(self) -> list[_Member]:
        return [member for member in self._members if member.gone_s is None]

    def _create(self) -> _Member:
        member = _Member(self._build(self._attempt_ended), self._clock.now)
        self._members.append(member)
        return member

    def _after(self, delay_s: float, member: _Member) -> None:
        self._clock.later(delay_s, self._serve, member)

    def _serve(self, member: _Member) -> None:
        if not member.leaving:
            self._rotation.append(member)

    def _let_go(self, member: _Member) -> None:
        member.leaving = True
        self._leave_rotation(member)
        if member.replica.in_flight:
            self._draining.append(member)
        else:
            member.gone_s = self._clock.now

    def _noticed(self, member: _Member) -> None:
        member.hole = self._taken_over < 1.0
        if not member.hole:
            self._leave_rotation(member)
        member.replica.break_off()

    def _replace(self, member: _Member) -> None:
        if not member.leaving:
            member.gone_s = self._clock.now
            delay_s = self._delays.start_s + self._delays.join_s
            self._after(delay_s, self._create())
            self._clock.later(delay_s, self._leave_rotation, member)

    def _leave_rotation(self, member: _Member) -> None:
        if member in self._rotation:
            self._rotation.remove(member)

    def _attempt_ended(self, study: Study, end: End) -> None:
        for member in [member for member in self._draining if not member.replica.in_flight]:
            self._draining.remove(member)
            member.gone_s = self._clock.now
        final = end in (End.ANSWERED, End.DEADLINE) or study.attempts >= self._retry.max_attempts
        if final:
            self._tell(study, end)
            return
        self._clock.later(self._pause_s(study, end), self.send, study)

    def _pause_s(self, study: Study, end: End) -> float:
        longest = min(self._retry.max_pause_s, self._retry.first_pause_s * 2.0 ** (study.attempts - 1))
        told = FULL_PAUSE_S if end is End.FULL else 0.0
        return told + float(self._rng.uniform(0.0, longest))
