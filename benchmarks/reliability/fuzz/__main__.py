"""``python -m reliability.fuzz``: abuse a real server, on Triton's own port and through the gate.

Exit code 1 if anything was found: a process that died, an error that is not clean, a good volume harmed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import psutil
from tritonclient.grpc import service_pb2_grpc

from reliability import outcome_table
from reliability.fuzz import campaign, wire
from reliability.fuzz.seeds import ENTRIES, seeds
from reliability.fuzz.watch import Neighbour, Watch
from reliability.gate_process import GateProcess
from spine_server import EmbeddedTriton, ServerOptions

TARGETS = {"triton": "Triton's port", "gate": "the gate"}
_LIMITS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]


class Run:
    """One target: what is sent to it, and the row of the table that comes of it."""

    def __init__(
        self, target: str, address: str, triton_pid: int, good: dict[str, Any], metadata: Any = ()
    ) -> None:
        self.target, self.good, self.metadata = target, good, metadata
        host, _, port = address.rpartition(":")
        self.address = (host, int(port))
        self.watch = Watch(triton_pid)
        self.channel = grpc.insecure_channel(address, options=_LIMITS)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.rows: list[dict[str, Any]] = []

    def step(self, kind: str, work: Callable[[], object], sent: int) -> None:
        """Do one kind of abuse and note its row."""
        print(f"{self.target}: {kind}", flush=True)
        watch, started = self.watch, time.monotonic()
        watch.answered, watch.refused, before = 0, {}, len(watch.findings)
        work()
        watch.deaths(kind)
        self.rows.append(
            {
                "target": self.target,
                "abuse": kind,
                "sent": sent,
                "refused": ", ".join(f"{n} {name}" for name, n in sorted(watch.refused.items())) or None,
                "answered": watch.answered or None,
                "findings": len(watch.findings) - before,
                "seconds": time.monotonic() - started,
            }
        )

    def idle(self, count: int) -> None:
        """Hold idle connections, and have a good volume answered meanwhile."""
        held = wire.idle_connections(self.address, count)
        try:
            self.stub.ModelInfer(self.good["spine_mri"], timeout=120, metadata=self.metadata)
        except grpc.RpcError as error:
            self.watch.note(f"with {count} idle connections a good volume failed: {error.code().name}")
        finally:
            for each in held:
                each.close()

    def all(self, arguments: argparse.Namespace) -> None:
        """Everything, in order."""
        body = self.good["spine_mri"].SerializeToString()
        number, meta = arguments.seed, self.metadata
        few, many = arguments.examples, arguments.examples * 2
        self.step(
            "spoilt requests",
            lambda: campaign.structured(
                self.stub, self.good, self.watch, count=few, number=number, metadata=meta
            ),
            few,
        )
        self.step(
            "damaged bytes",
            lambda: campaign.byte_level(
                self.channel, self.good, self.watch, count=many, number=number, metadata=meta
            ),
            many,
        )
        self.step(
            "misbehaving connections",
            lambda: campaign.connections(
                self.address, lambda: wire.RawConnection(self.address), body, self.watch, number=number
            ),
            460,
        )
        self.step(f"{arguments.idle} idle connections", lambda: self.idle(arguments.idle), arguments.idle)
        self.channel.close()


def main() -> int:
    """Fuzz the targets, print the table. Returns the exit code."""
    arguments = _parser().parse_args()
    log = arguments.out / "fuzz-server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with EmbeddedTriton(ServerOptions(log_level="info", log_file=log)) as server:
        pid = server.pid
        assert pid is not None
        rows, findings, answers = _targets(server.grpc_url, pid, arguments)
        memory = psutil.Process(pid).memory_info().rss / 2**20
    notes = [
        f"Beside the fuzzer one good volume was sent again and again: {answers} answers, all the same."
        if not any("good volume" in finding for finding in findings)
        else "Good volumes beside the fuzzer were harmed: see the findings.",
        f"tritonserver's memory at the end: {memory:.0f} MiB.",
        *(f"FINDING: {finding}" for finding in findings),
    ]
    command = f"make fuzz ({arguments.examples} examples, seed {arguments.seed})"
    part_of = None if arguments.target == "both" else "target"
    outcome_table.keep(
        arguments.out,
        "fuzz",
        title="Hostile input",
        command=command,
        rows=rows,
        notes=[f"{TARGETS[arguments.target]}: {note}" for note in notes] if part_of else notes,
        part_of=part_of,
    )
    return 1 if findings else 0


def _targets(
    url: str, pid: int, arguments: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[str], int]:
    """Rows, findings, and how many good volumes were answered beside the abuse of the targets asked for."""
    runs, answers = [], 0
    with grpc.insecure_channel(url, options=_LIMITS) as channel, ExitStack() as stack:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        good = seeds(stub)
        if arguments.target != "gate":
            runs.append(Run(TARGETS["triton"], url, pid, good))
        if arguments.target != "triton":
            gate = stack.enter_context(GateProcess(url, models=ENTRIES))
            entries = {model: good[model] for model in ENTRIES}
            runs.append(Run(TARGETS["gate"], f"127.0.0.1:{gate.port}", pid, entries, gate.metadata()))
        for run in runs:
            with Neighbour(stub, good["spine_mri"], run.watch) as beside:
                run.all(arguments)
            answers += beside.answers
        if arguments.target != "triton" and gate.process.poll() is not None:
            runs[-1].watch.note("the gate died")
    findings = [f"{run.target}: {finding}" for run in runs for finding in run.watch.findings]
    return [row for run in runs for row in run.rows], findings, answers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reliability.fuzz", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument(
        "--examples", type=int, default=1500, help="spoilt requests per target (default: 1500)"
    )
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections (default: 10,000)")
    parser.add_argument(
        "--target",
        choices=(*TARGETS, "both"),
        default="both",
        help="one of the two alone; the table keeps the other's rows",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/reliability"), metavar="DIR")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
