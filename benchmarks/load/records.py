"""What became of each volume that was sent; one line of ``records.csv``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

OK = "ok"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One volume. Times are seconds after the start of the run.

    Attributes
    ----------
    due_s : when it was to be sent; in a closed loop the moment its caller sent it
    sent_s : when sending began; later than `due_s` where the generator fell behind
    done_s : when the last byte of the answer was there and read, or the error was
    wire_s : of that, from handing the request to gRPC to the last byte, all attempts
    outcome : ``ok`` or the SDK's error class; `code` is the error's own code where it has one
    stages_s : seconds per stage as the report states them
    """

    number: int
    phase: int
    kind: str
    due_s: float
    sent_s: float
    done_s: float
    wire_s: float
    outcome: str
    code: str = ""
    attempts: int = 1
    worker: int = 0
    stages_s: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the answer came."""
        return self.outcome == OK

    @property
    def latency_s(self) -> float:
        """From when it was due: a stall is in it for all that came due meanwhile."""
        return self.done_s - self.due_s

    @property
    def late_s(self) -> float:
        """How late it was sent."""
        return self.sent_s - self.due_s


def write_records(path: Path, records: Iterable[Record]) -> None:
    """As CSV, in order of their numbers."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [each.name for each in fields(Record)])
        writer.writeheader()
        for record in sorted(records, key=lambda each: (each.due_s, each.number)):
            writer.writerow({key: _cell(value) for key, value in asdict(record).items()})


def read_records(path: Path) -> list[Record]:
    """What `write_records` wrote."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [_record(row) for row in csv.DictReader(stream)]


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4f}"
    return json.dumps({k: round(v, 4) for k, v in value.items()}) if isinstance(value, dict) else value


def _record(row: dict[str, str]) -> Record:
    values: dict[str, Any] = {name: int(row[name]) for name in ("number", "phase", "attempts", "worker")}
    values |= {name: float(row[name]) for name in ("due_s", "sent_s", "done_s", "wire_s")}
    values |= {name: row[name] for name in ("kind", "outcome", "code")}
    return Record(**values, stages_s=json.loads(row["stages_s"]))
