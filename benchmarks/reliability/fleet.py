"""Replicas, reached by the SDK's round robin or through a proxy, and whether they are at full strength."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from reliability import sandbox
from reliability.proxy import Proxy
from reliability.relay import Relay
from reliability.replica import Replica
from reliability.stream import ONE_ATTEMPT, fingerprint
from spine_client import SpineClient, SpineClientError, Volume

START_S = 400.0


class Fleet:
    """As a context manager: all replicas ready inside the block, nothing left after it.

    Attributes
    ----------
    relays : one before each replica, which can delay what passes
    """

    def __init__(self, count: int, folder: Path) -> None:
        self.replicas = [
            Replica(number, folder, shifted_clock=number == count - 1) for number in range(count)
        ]
        self.relays: list[Relay] = []
        self.proxy: Proxy | None = None
        self._folder = folder

    def __enter__(self) -> Fleet:
        try:
            for replica in self.replicas:  # one after the other: together they starve each other
                replica.start()
                replica.wait_ready(START_S)
            self.relays = [Relay(replica.port) for replica in self.replicas]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.proxy is not None:
            self.proxy.close()
        for relay in self.relays:
            relay.close()
        with contextlib.ExitStack() as stops:  # all of them, whatever happens to one's log
            for replica in self.replicas:
                stops.callback(replica.stop)
                with contextlib.suppress(OSError):
                    replica.keep_log(self._folder)
        if sandbox.has_nft():
            sandbox.drop([], 0)

    @property
    def round_robin(self) -> str:
        """The target by which the SDK itself spreads requests over all replicas."""
        return "ipv4:" + ",".join(f"127.0.0.1:{relay.port}" for relay in self.relays)

    def through_proxy(self) -> str:
        """The target of the proxy, which is started now."""
        if self.proxy is None:
            self.proxy = Proxy(self.replicas, [relay.port for relay in self.relays], self._folder)
        return f"127.0.0.1:{self.proxy.port}"

    def answers(self, replica: Replica, volume: Volume, expected: str, timeout_s: float = 60.0) -> bool:
        """Whether a replica, asked directly, answers right now and rightly."""
        with SpineClient(f"127.0.0.1:{replica.port}", retry=ONE_ATTEMPT, timeout_s=timeout_s) as client:
            try:
                return fingerprint(client.analyze(volume).labels) == expected
            except SpineClientError:
                return False

    def full_strength_after(
        self, affected: Sequence[Replica], volume: Volume, expected: str, limit_s: float
    ) -> float | None:
        """Seconds until all of `affected` answer rightly, asked directly; None if they never do."""
        began, waiting = time.monotonic(), list(affected)
        while time.monotonic() - began < limit_s:
            waiting = [replica for replica in waiting if not self.answers(replica, volume, expected)]
            if not waiting:
                return time.monotonic() - began
            time.sleep(0.3)
        return None
