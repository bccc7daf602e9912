"""Kills parts of a supervised server and times how long it takes to answer again: `make recovery`.

A stage's process, then Triton itself, is killed again and again, and a small volume sent until it comes back
as a report. Prints a table, writes it to ``<out>/recovery.json``, where other rows stay, and exits with
1 where a median exceeds what RELIABILITY.md promises.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from spine_server.canary import run_canary
from spine_server.errors import CanaryError
from spine_server.processes import stubs_of

PROMISED_S = {"stage": 5.0, "Triton": 20.0}
STAGES = ("preprocess", "segment", "nnunet", "identify", "measure_cnn", "report")


class Server:
    """A `spine-server` on a free port."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "spine_server.cli", "--grpc-port", "0", "--log-level", "warning"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        match = re.search(r"grpc ([\d.:]+)", self.process.stdout.readline())
        if match is None:
            raise SystemExit("The server did not start; `make serve` says why.")
        self.url = match[1]

    @property
    def triton(self) -> int:
        """Process number of the Triton that runs now."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def victim(self, what: str) -> int:
        """Process number of Triton, or of a stage's newest process."""
        if what == "Triton":
            return self.triton
        return [stub.pid for stub in stubs_of(self.triton) if stub.model == what][-1]

    def seconds_to_recover(self, what: str) -> float:
        """Kill it; seconds until two volumes in a row, one for each process of a stage, are answered."""
        os.kill(self.victim(what), signal.SIGKILL)
        began = time.monotonic()
        while True:
            try:
                run_canary(self.url, timeout_s=5.0)
                answered_s = time.monotonic() - began
                run_canary(self.url, timeout_s=5.0)
            except CanaryError:
                time.sleep(0.05)
                continue
            return answered_s

    def stop(self) -> None:
        """Stop it in order."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def measured(what: str, times: int) -> list[float]:
    """Seconds of each recovery. Every few kills the server is a new one, so that none counts as a loop."""
    seconds: list[float] = []
    while len(seconds) < times:
        server = Server()
        try:
            for _ in range(min(1 if what == "Triton" else 2, times - len(seconds))):
                seconds.append(server.seconds_to_recover(what))
        finally:
            server.stop()
    return seconds


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/recovery"))
    parser.add_argument("--times", type=int, default=5, help="kills of each part (default: 5)")
    parser.add_argument("--parts", nargs="+", default=[*STAGES, "Triton"])
    arguments = parser.parse_args()
    kept = arguments.out / "recovery.json"
    rows = json.loads(kept.read_text()) if kept.is_file() else []
    rows = [row for row in rows if row["killed"] not in arguments.parts]
    print(f"{'killed':12} {'median':>7} {'longest':>8} {'promised':>9}   seconds to the next answer, load")
    for what in arguments.parts:
        load = os.getloadavg()[0]
        seconds = measured(what, arguments.times)
        promised = PROMISED_S["Triton" if what == "Triton" else "stage"]
        median, longest = statistics.median(seconds), max(seconds)
        missed = "" if median <= promised else "   MISSED"
        rows.append(
            {"killed": what, "seconds": seconds, "median": median, "promised": promised, "load": load}
        )
        print(f"{what:12} {median:7.1f} {longest:8.1f} {promised:9.0f}   load {load:.1f}{missed}", flush=True)
        arguments.out.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["median"] > row["promised"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
