"""What the process that looks on hands to the processes that send: one JSON file, named by a variable."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load.target import Target
from load.workload import Workload, read_workload

VARIABLE = "SPINESERVE_LOAD_TASK"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A run, as every worker needs to know it. `capacity_per_s` is what relative levels are multiples of."""

    workload_path: Path
    target: Target
    cache: Path
    results: Path
    compress: float | None = None
    capacity_per_s: float = 1.0

    def workload(self, capacity_per_s: float | None = None) -> Workload:
        """The workload, its levels in volumes per second; by the task's own capacity or another."""
        workload = read_workload(self.workload_path, compress=self.compress)
        return workload.scaled(self.capacity_per_s if capacity_per_s is None else capacity_per_s)

    def fingerprint(self) -> str:
        """The same for the same phases and volumes, wherever their file is."""
        workload = read_workload(self.workload_path, compress=self.compress)
        return hashlib.sha256(repr(workload).encode()).hexdigest()[:16]

    def write(self, path: Path) -> None:
        """For the workers; there is no secret in it."""
        content = {
            "workload_path": str(self.workload_path.resolve()),
            "target": self.target.to_json(),
            "cache": str(self.cache.resolve()),
            "results": str(self.results.resolve()),
            "compress": self.compress,
            "capacity_per_s": self.capacity_per_s,
        }
        path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls) -> Task:
        """The task that the environment names."""
        content = json.loads(Path(os.environ[VARIABLE]).read_text("utf-8"))
        names = ("workload_path", "cache", "results")
        paths: dict[str, Any] = {name: Path(content.pop(name)) for name in names}
        return cls(**paths, target=Target.from_json(content.pop("target")), **content)
