"""``python -m reliability.chaos``: three replicas under a steady stream of volumes, and what faults do to it.

Each fault strikes while callers with and without retries send. Exit code 1 if an answer was wrong, a caller
with retries lost a request, one without got an error that is not retryable, or a replica did not come back.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from reliability import outcome_table, proxy, sandbox
from reliability.faults import FAULTS, Fault
from reliability.fleet import Fleet
from reliability.stream import Stream, fingerprint, phantoms
from spine_client import SpineClient

_RECOVERY_S = 240.0


class Chaos:
    """The runs of one session, and their rows.

    A fault lasts 12 s where it does not pass by itself, and two right answers are waited for before and after
    it; with ``--long`` 30 s and eight.

    Parameters
    ----------
    rows, notes : what is found out is added to them
    """

    def __init__(
        self, fleet: Fleet, arguments: argparse.Namespace, rows: list[dict[str, Any]], notes: list[str]
    ) -> None:
        self._fleet, self._volumes = fleet, phantoms(2)
        self._fault_s, self._settle = (30.0, 8) if arguments.long else (12.0, 2)
        self.rows, self.notes = rows, notes
        self._expected = self._without_faults()

    def _without_faults(self) -> list[str]:
        """What each volume gets while nothing is wrong: from every replica the same."""
        answers: set[tuple[str, ...]] = set()
        for replica in self._fleet.replicas:
            with SpineClient(f"127.0.0.1:{replica.port}") as client:
                labels = tuple(fingerprint(client.analyze(volume).labels) for volume in self._volumes)
            answers.add(labels)
        if len(answers) != 1:
            raise RuntimeError("The replicas do not agree while nothing is wrong.")
        return list(answers.pop())

    def run(self, fault: Fault, fronts: Mapping[str, str]) -> None:
        """Strike once, under load through all `fronts` (name -> target) at once; note a row for each."""
        if not fault.possible(self._fleet):
            self.notes.append(f"{fault.name}: not run, this machine does not allow it.")
            return
        print(fault.name, flush=True)
        began = time.monotonic()
        with ExitStack() as stack:
            streams = {
                front: stack.enter_context(Stream(url, self._volumes, self._expected))
                for front, url in fronts.items()
            }
            self._settled(streams.values())
            try:
                fault.strike(self._fleet, self._fault_s)
            except (OSError, RuntimeError) as error:  # it is not the fault's row that would be measured
                self.notes.append(f"{fault.name}: not done, {error}")
                return
            hit = fault.hits(self._fleet)
            strength = self._fleet.full_strength_after(hit, self._volumes[0], self._expected[0], _RECOVERY_S)
            self._settled(streams.values())
        for front, stream in streams.items():
            self._note(fault, front, stream, strength)
        print(f"   {time.monotonic() - began:.0f} s in all", flush=True)

    def _settled(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            stream.wait_for(self._settle, _RECOVERY_S)

    def _note(self, fault: Fault, front: str, stream: Stream, strength: float | None) -> None:
        row = {"fault": fault.name, "front": front, **stream.summary(), "full strength after s": strength}
        self.rows.append(row)
        print("   " + ", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        for kind, count in stream.failures().items():
            self.notes.append(f"{front}, {fault.name}: {count} × {kind}")
            print(f"   {count} × {kind}", flush=True)

    def failed(self) -> list[str]:
        """What is not as promised."""
        return [
            f"{row['front']}, {row['fault']}: see its row"
            for row in self.rows
            if row["wrong"]
            or row["failed with retries"]
            or row["failed without, other"]
            or row["full strength after s"] is None
        ]


def main() -> int:
    """Run the faults, print the table. Returns the exit code."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing stays behind
    if not sandbox.enter():
        print("no namespaces on this machine: faults that need them are left out", file=sys.stderr)
    arguments.out.mkdir(parents=True, exist_ok=True)
    faults = [
        fault for fault in FAULTS if not arguments.only or any(word in fault.name for word in arguments.only)
    ]
    rows: list[dict[str, Any]] = []
    notes = list(_ABOUT)
    chaos = None
    try:
        with Fleet(arguments.replicas, arguments.out) as fleet:
            chaos = Chaos(fleet, arguments, rows, notes)
            fronts = _fronts(fleet, arguments.front, notes)
            for fault in [*faults] * (3 if arguments.long else 1):
                chaos.run(fault, fronts)
    finally:  # what has been measured is shown, whatever ended the run
        failed = chaos.failed() if chaos else ["nothing was run"]
        notes += [f"NOT AS PROMISED: {each}" for each in failed]
        outcome_table.keep(
            arguments.out,
            "chaos",
            title="Faults under load",
            command=f"make chaos{' LONG=1' if arguments.long else ''}",
            rows=rows,
            notes=notes,
            part_of="fault" if arguments.only else None,
        )
    return 1 if failed else 0


def _fronts(fleet: Fleet, wanted: Sequence[str], notes: list[str]) -> dict[str, str]:
    """The targets by which callers reach the fleet."""
    found = {}
    if "round robin" in wanted:
        found["round robin"] = fleet.round_robin
    if "haproxy" in wanted:
        if proxy.available():
            found["HAProxy"] = fleet.through_proxy()
        else:
            notes.append("HAProxy: not run, it is not installed (apt-get install haproxy).")
    return found


_ABOUT = (
    "By each front one caller sends with the SDK's retries (12 attempts) and one without, both fronts at the "
    "same time; every answer's label map is compared byte for byte with the one from before.",
    "Full strength: from the end of the fault (a kill: its moment) until each replica it hit answers a "
    "volume rightly when asked directly.",
    "Delay comes from a relay in user space, for kernels without netem; loss and cut are nftables' in a "
    "network namespace of the run.",
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reliability.chaos", description=(__doc__ or "").partition("\n\n")[0]
    )
    add = parser.add_argument
    add("--long", action="store_true", help="three rounds, longer faults")
    add("--replicas", type=int, default=3)
    add("--front", nargs="+", choices=("round robin", "haproxy"), default=("round robin", "haproxy"))
    add(
        "--only",
        nargs="+",
        metavar="WORD",
        help="faults with this in their name; the table keeps the others",
    )
    add("--out", type=Path, default=Path("out/reliability"), metavar="DIR")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
