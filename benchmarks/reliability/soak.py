"""``python -m reliability.soak``: one server at 70 % of what it can do, for hours; does anything grow?

Memory and file handles of every process, shared memory and latency are sampled, plotted, and held to
bounds: the median of the last quarter against that of the second (the first is warm-up). Exit code 1 if one
is exceeded, or if an answer was wrong or missing.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import psutil
from matplotlib import pyplot

from reliability import outcome_table
from reliability.processes import run_name, tree
from reliability.replica import Replica
from reliability.stream import PATIENT, Record, fingerprint, phantoms
from spine_client import SpineClient, SpineClientError, Volume
from spine_server.processes import stubs_of

LOAD = 0.7
MEMORY_MIB, MEMORY_PART = 24.0, 0.05
"""A process may have grown by the larger of these: allocators take pages back and forth."""
HANDLES, SHARED_MIB = 8, 2.0
SAMPLES = 240


@dataclass(frozen=True)
class Sample:
    """One look: seconds since the start, and by process its memory in MiB and its file handles."""

    at_s: float
    memory_mib: dict[str, float]
    handles: dict[str, int]
    shared_mib: float


def look(triton: int, root: int, *, at_s: float = 0.0) -> Sample:
    """Memory, handles and shared memory of `root` and all below it, of which `triton` is the tritonserver."""
    names = {stub.pid: stub.model for stub in stubs_of(triton)}
    memory: dict[str, float] = {}
    handles: dict[str, int] = {}
    for pid in tree(root):
        try:
            process = psutil.Process(pid)
            name = f"{names.get(pid) or process.name()} {pid}"
            memory[name] = process.memory_info().rss / 2**20
            handles[name] = process.num_fds()
        except psutil.NoSuchProcess:
            continue
    regions = Path("/dev/shm").glob(f"{run_name(triton)}*")
    shared = sum(region.stat().st_blocks * 512 for region in regions) / 2**20
    return Sample(at_s, memory, handles, shared)


class Soak:
    """The load and the looks at it.

    Parameters
    ----------
    replica : a running server
    volumes : sent in turn
    """

    def __init__(self, replica: Replica, volumes: Sequence[Volume]) -> None:
        self._replica, self._volumes = replica, volumes
        self.samples: list[Sample] = []
        self.records: list[Record] = []
        self._client = SpineClient(f"127.0.0.1:{replica.port}", retry=PATIENT, timeout_s=300.0)
        self._expected = [fingerprint(self._client.analyze(volume).labels) for volume in volumes]
        self.service_s = self._capacity()
        self._began = time.monotonic()

    def _capacity(self) -> float:
        """Seconds that one volume takes the server when it has nothing else to do."""
        began, rounds = time.monotonic(), 2
        for volume in [*self._volumes] * rounds:
            self._client.analyze(volume)
        return (time.monotonic() - began) / (rounds * len(self._volumes))

    def run(self, minutes: float) -> None:
        """Send at fixed intervals, whether answers have come or not, and sample meanwhile."""
        ends, interval_s = self._began + 60.0 * minutes, self.service_s / LOAD
        over = threading.Event()
        sampler = threading.Thread(target=self._sample_until, args=(over, 60.0 * minutes / SAMPLES))
        sampler.start()
        with ThreadPoolExecutor(16) as pool:
            due, number = self._began, 0
            while due < ends:
                time.sleep(max(0.0, due - time.monotonic()))
                pool.submit(self._send, number, due)
                due, number = due + interval_s, number + 1
        over.set()
        sampler.join()
        self._client.close()

    def _send(self, number: int, due: float) -> None:
        """One volume; its latency counts from when it was due."""
        record, which = Record(due, retrying=True), number % len(self._volumes)
        try:
            labels = self._client.analyze(self._volumes[which]).labels
            record.outcome = "ok" if fingerprint(labels) == self._expected[which] else "wrong"
        except SpineClientError as error:
            record.outcome = type(error).__name__
        record.over_at = time.monotonic()
        self.records.append(record)

    def _sample_until(self, over: threading.Event, interval_s: float) -> None:
        while not over.wait(interval_s):
            with contextlib.suppress(RuntimeError, StopIteration, psutil.Error):  # it is being restarted
                self.samples.append(self._sample())

    def _sample(self) -> Sample:
        return look(self._replica.triton, self._replica.pid, at_s=time.monotonic() - self._began)

    def latencies(self) -> list[tuple[float, float]]:
        """When each answer came and how long it took, both in seconds."""
        good = [record for record in self.records if record.outcome == "ok"]
        return sorted((record.over_at - self._began, record.over_at - record.sent_at) for record in good)


def growth(times: Sequence[float], values: Sequence[float], whole_s: float) -> tuple[float, float]:
    """Medians of the second and of the last quarter of a run."""
    second = [v for t, v in zip(times, values, strict=True) if whole_s / 4 <= t < whole_s / 2]
    last = [v for t, v in zip(times, values, strict=True) if t >= whole_s * 3 / 4]
    return statistics.median(second), statistics.median(last)


def rows_of(soak: Soak, whole_s: float) -> list[dict[str, Any]]:
    """The table: what was watched, before and after, the bound, whether it held."""
    times = [sample.at_s for sample in soak.samples]
    rows = []
    for name in soak.samples[-1].memory_mib:
        before, after = growth(times, [s.memory_mib.get(name, 0.0) for s in soak.samples], whole_s)
        rows.append(_row(f"memory of {name}, MiB", before, after, max(MEMORY_MIB, MEMORY_PART * before)))
    total = [float(sum(s.handles.values())) for s in soak.samples]
    rows.append(_row("file handles, all processes", *growth(times, total, whole_s), HANDLES))
    shared = [s.shared_mib for s in soak.samples]
    rows.append(_row("shared memory, MiB", *growth(times, shared, whole_s), SHARED_MIB))
    moments, took = zip(*soak.latencies(), strict=True)
    before, after = growth(moments, took, whole_s)
    rows.append(_row("latency, median, s", before, after, None))
    return rows


def _row(what: str, before: float, after: float, bound: float | None) -> dict[str, Any]:
    held = None if bound is None else after - before <= bound
    return {
        "watched": what,
        "second quarter": before,
        "last quarter": after,
        "may grow by": bound,
        "held": held,
    }


def plot(soak: Soak, path: Path) -> None:
    """Memory, handles, shared memory and latency over minutes."""
    figure, axes = pyplot.subplots(4, 1, figsize=(9, 11), sharex=True)
    minutes = [sample.at_s / 60 for sample in soak.samples]
    for name in soak.samples[-1].memory_mib:
        axes[0].plot(minutes, [s.memory_mib.get(name) for s in soak.samples], label=name.rpartition(" ")[0])
    axes[0].legend(fontsize=6, ncols=3)
    axes[1].plot(minutes, [sum(s.handles.values()) for s in soak.samples])
    axes[2].plot(minutes, [s.shared_mib for s in soak.samples])
    moments = soak.latencies()
    axes[3].plot([at / 60 for at, _ in moments], [took for _, took in moments], ".", markersize=3)
    titles = ("memory, MiB", "file handles", "/dev/shm, MiB", "latency, s")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_ylabel(title)
        axis.set_ylim(bottom=0)
    axes[3].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    """Run, plot, judge. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="reliability.soak", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=Path("out/reliability"), metavar="DIR")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing stays behind
    arguments.out.mkdir(parents=True, exist_ok=True)
    replica = Replica(0, arguments.out)
    try:
        replica.start()
        replica.wait_ready(400.0)
        soak = Soak(replica, phantoms(3))
        print(f"one volume takes {soak.service_s:.2f} s; one every {soak.service_s / LOAD:.2f} s", flush=True)
        soak.run(arguments.minutes)
    finally:
        replica.stop()
    return _judge(soak, arguments)


def _judge(soak: Soak, arguments: argparse.Namespace) -> int:
    rows = rows_of(soak, 60.0 * arguments.minutes)
    right, wrong = (sum(each.outcome == kind for each in soak.records) for kind in ("ok", "wrong"))
    sent = len(soak.records)
    notes = [
        f"{sent} volumes, one every {soak.service_s / LOAD:.2f} s, {LOAD:.0%} of what the server does one "
        f"after the other: {right} right, {wrong} wrong, {sent - right - wrong} failed.",
        "Medians of the second and of the last quarter of the run; latency from when a volume was "
        "due. It has no bound: other work on the machine moves it.",
    ]
    plot(soak, arguments.out / "soak.png")
    command = f"make soak MINUTES={arguments.minutes:g}"
    outcome_table.keep(arguments.out, "soak", title="Long run", command=command, rows=rows, notes=notes)
    return 0 if right == sent and all(row["held"] is not False for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
