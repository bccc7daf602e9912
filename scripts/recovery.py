"""Kills parts of a supervised server and times how long it takes to answer again: `make recovery`.

One part after the other, Triton last, is killed, and a small volume sent until it comes back as a report;
`measure_cnn`, which that volume does not reach, is asked itself. Prints a table, writes it to
``<out>/recovery.json``, where other rows stay, and exits with 1 where a median exceeds what RELIABILITY.md
promises.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from spine_server.canary import run_canary
from spine_server.errors import CanaryError
from spine_server.processes import stubs_of
from spinecore.contract import ONE_HEIGHT, ONE_PATCH

PROMISED_S = {"stage": 5.0, "Triton": 20.0}
STAGES = ("preprocess", "segment", "nnunet", "identify", "measure_cnn", "report")
_ANSWER_S = 5.0
_PAUSE_S = 1.0
"""Between two kills: the supervisor's own look after a reload is over."""


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
        """Kill it; seconds until two requests in a row, one for each process of a stage, are answered."""
        time.sleep(_PAUSE_S)
        os.kill(self.victim(what), signal.SIGKILL)
        began = time.monotonic()
        while True:
            try:
                self.ask(what)
                answered_s = time.monotonic() - began
                self.ask(what)
            except (CanaryError, InferenceServerException):
                time.sleep(0.05)
                continue
            return answered_s

    def ask(self, what: str) -> None:
        """Have the canary answered, or a patch measured where the canary does not come."""
        if what == "measure_cnn":
            measure_patch(self.url)
        else:
            run_canary(self.url, timeout_s=_ANSWER_S)

    def stop(self) -> None:
        """Stop it in order."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def measure_patch(url: str) -> None:
    """One empty patch through `measure_cnn`: the canary holds no spine, so that no disc of it gets there.

    Raises
    ------
    InferenceServerException
        It was not answered.
    """
    patch = triton.InferInput(ONE_PATCH.name, [1, *ONE_PATCH.dims], "FP32")
    patch.set_data_from_numpy(np.zeros((1, *ONE_PATCH.dims), np.float32))
    with triton.InferenceServerClient(url) as client:
        heights = client.infer("measure_cnn", [patch], client_timeout=_ANSWER_S).as_numpy(ONE_HEIGHT.name)
    assert heights is not None and np.isfinite(heights).all()


def measured(parts: Sequence[str], times: int) -> dict[str, list[float]]:
    """Seconds of each recovery. Each round has a server of its own, so that no death counts as a loop."""
    seconds: dict[str, list[float]] = {what: [] for what in parts}
    for number in range(times):
        server = Server()
        try:
            for what in parts:
                seconds[what].append(server.seconds_to_recover(what))
                print(f"round {number + 1}: {what:12} {seconds[what][-1]:5.1f} s", flush=True)
        finally:
            server.stop()
    return seconds


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/recovery"))
    parser.add_argument("--times", type=int, default=5, help="kills of each part (default: 5)")
    parser.add_argument("--parts", nargs="+", choices=[*STAGES, "Triton"], default=[*STAGES, "Triton"])
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    parts = sorted(arguments.parts, key=lambda what: what == "Triton")  # with it all counts begin anew
    rows = [_row(what, seconds, load) for what, seconds in measured(parts, arguments.times).items()]
    print(f"\n{'killed':12} {'median':>7} {'longest':>8} {'promised':>9}   seconds to the next answer")
    for row in rows:
        missed = "" if row["median"] <= row["promised"] else "   MISSED"
        longest = max(row["seconds"])
        print(f"{row['killed']:12} {row['median']:7.1f} {longest:8.1f} {row['promised']:9.0f}{missed}")
    _keep(arguments.out, rows)
    return int(any(row["median"] > row["promised"] for row in rows))


def _row(what: str, seconds: list[float], load: float) -> dict[str, Any]:
    promised = PROMISED_S["Triton" if what == "Triton" else "stage"]
    median = statistics.median(seconds)
    return {"killed": what, "seconds": seconds, "median": median, "promised": promised, "load": load}


def _keep(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows; those of other parts, from earlier runs, stay."""
    kept = out / "recovery.json"
    earlier = json.loads(kept.read_text()) if kept.is_file() else []
    again = {row["killed"] for row in rows}
    out.mkdir(parents=True, exist_ok=True)
    kept.write_text(
        json.dumps([row for row in earlier if row["killed"] not in again] + rows, indent=1) + "\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
