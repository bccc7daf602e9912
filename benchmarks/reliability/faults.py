"""What is done to the fleet, one thing at a time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reliability import sandbox
from reliability.fleet import START_S, Fleet
from reliability.fuzz.seeds import request, volume_tensors
from reliability.fuzz.wire import RawConnection, frame
from reliability.processes import send
from reliability.replica import Replica


@dataclass(frozen=True)
class Fault:
    """One fault: what it is called, what it does, and whom it hits.

    Attributes
    ----------
    strike : does it, and undoes it where it does not pass by itself; returns when it is over
    hits : the replicas that it takes from the service
    possible : whether this machine lets it be done
    """

    name: str
    strike: Callable[[Fleet, float], None]
    hits: Callable[[Fleet], Sequence[Replica]]
    possible: Callable[[Fleet], bool] = lambda fleet: True


def nothing(fleet: Fleet, seconds: float) -> None:
    """The stream alone, for comparison."""
    time.sleep(seconds)


def kill_stub(fleet: Fleet, seconds: float) -> None:
    """SIGKILL to one of the two processes of `segment`."""
    send([fleet.replicas[0].stubs("segment")[0].pid], signal.SIGKILL)


def kill_server(fleet: Fleet, seconds: float) -> None:
    """SIGKILL to a tritonserver; its supervisor starts another."""
    send([fleet.replicas[1].triton], signal.SIGKILL)


def stop_server(fleet: Fleet, seconds: float) -> None:
    """SIGSTOP to a tritonserver; its supervisor notices that it stands."""
    send([fleet.replicas[0].triton], signal.SIGSTOP)


def freeze_replica(fleet: Fleet, seconds: float) -> None:
    """SIGSTOP to all processes of a replica, as when its machine hangs; SIGCONT after a while."""
    fleet.replicas[1].freeze()
    time.sleep(seconds)
    fleet.replicas[1].thaw()


def rolling_restart(fleet: Fleet, seconds: float) -> None:
    """One replica after the other: SIGTERM, drained, started again, ready."""
    for replica in fleet.replicas:
        replica.stop()
        replica.start()
        replica.wait_ready(START_S)


def fill_shared_memory(fleet: Fleet, seconds: float) -> None:
    """A replica's /dev/shm is full to the last byte."""
    filler = fleet.replicas[0].fill(Path("/dev/shm"))
    time.sleep(seconds)
    filler.unlink()


def fill_log_disk(fleet: Fleet, seconds: float) -> None:
    """The file system of a replica's log is full."""
    filler = fleet.replicas[1].fill(fleet.replicas[1].logs)
    time.sleep(seconds)
    filler.unlink()


def delay_network(fleet: Fleet, seconds: float) -> None:
    """200 ms each way to one replica, by a relay in user space."""
    fleet.relays[2].delay_s = 0.2
    time.sleep(seconds)
    fleet.relays[2].delay_s = 0.0


def lose_packets(fleet: Fleet, seconds: float) -> None:
    """10 % of a replica's packets are dropped, by nftables."""
    sandbox.drop(_ports(fleet.replicas[0]), 10)
    time.sleep(seconds)
    sandbox.drop([], 0)


def cut_network(fleet: Fleet, seconds: float) -> None:
    """All of a replica's packets are dropped, without a word to either side."""
    sandbox.drop(_ports(fleet.replicas[1]), 100)
    time.sleep(seconds)
    sandbox.drop([], 0)


def jump_clock(fleet: Fleet, seconds: float) -> None:
    """A replica's wall clock jumps a day ahead, then two days back."""
    for offset in ("+1d", "-1d", "+0"):
        fleet.replicas[-1].jump_clock(offset)
        time.sleep(seconds / 3)


def slow_clients(fleet: Fleet, seconds: float) -> None:
    """Thirty callers at each replica that send their volume byte by byte, and then go."""
    body = frame(request("spine_mri", volume_tensors()).SerializeToString())
    slow = [RawConnection(("127.0.0.1", relay.port)) for relay in fleet.relays for _ in range(30)]
    calls = [(connection, connection.call()) for connection in slow]
    ends, place = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        for connection, stream in calls:
            connection.send(stream, body[place : place + 1])
        place += 1
        time.sleep(0.2)
    for connection in slow:
        connection.close()


def _ports(replica: Replica) -> list[int]:
    return [replica.port, replica.metrics_port]


def _one(number: int) -> Callable[[Fleet], Sequence[Replica]]:
    return lambda fleet: [fleet.replicas[number]]


def _all(fleet: Fleet) -> Sequence[Replica]:
    return fleet.replicas


def _own_mounts(fleet: Fleet) -> bool:
    return sandbox.inside()


def _packets(fleet: Fleet) -> bool:
    return sandbox.has_nft()


FAULTS = (
    Fault("none", nothing, lambda fleet: []),
    Fault("replica frozen", freeze_replica, _one(1)),
    Fault("network: cut", cut_network, _one(1), _packets),
    Fault("network: 10 % loss", lose_packets, _one(0), _packets),
    Fault("network: 400 ms round trip", delay_network, _one(2)),
    Fault("disk full for the log", fill_log_disk, _one(1), _own_mounts),
    Fault("/dev/shm full", fill_shared_memory, _one(0), _own_mounts),
    Fault("clock jumps by a day", jump_clock, _one(-1), lambda fleet: fleet.replicas[-1].can_jump),
    Fault("slow clients", slow_clients, _all),
    Fault("server stopped (SIGSTOP)", stop_server, _one(0)),
    Fault("stub killed", kill_stub, _one(0)),
    Fault("server killed", kill_server, _one(1)),
    Fault("rolling restart", rolling_restart, _all),
)
