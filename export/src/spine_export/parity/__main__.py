"""``python -m spine_export.parity``: the parity table; exit code 1 where something misses its tolerance.

Every case is a results folder written here, exported in each precision into a repository in a temporary
folder, and compared with nnUNetPredictor on a phantom and, where they are there, on real MR images.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spine_export.gate import nnunet_answer
from spine_export.networks import PRECISIONS, export_trained
from spine_export.nnunet_folder import TrainedNetwork, read_results_folder
from spine_export.parity.cases import CASES, Case, parity_images
from spine_export.parity.results import write_results
from spine_export.verify import Verification, table, verify_images
from spinecore.network_spec import NetworkSpec

FIT_STEPS = 40


def run_case(name: str, case: Case, folder: Path, *, precisions: Sequence[str]) -> Iterator[Verification]:
    """Write, export and verify one case, precision by precision."""
    results = write_results(folder / "results", case.kind, steps=0 if case.untrained else FIT_STEPS)

    def read() -> TrainedNetwork:
        return read_results_folder(results, name="nnunet", mirror=case.mirror, step_size=case.step_size)

    images = parity_images(read().spec)
    references = [nnunet_answer(image, read()) for image in images]
    for precision in PRECISIONS:
        if precision in precisions and precision in case.precisions:
            repository, trained = folder / precision, read()  # the export rounds weights in place
            done = export_trained(trained, repository=repository, precision=precision, calibration=images)
            served = replace(trained, spec=NetworkSpec.load(done.folder / "network.json"))
            found = verify_images(
                repository / "nnunet", served, images, untrained=case.untrained, references=references
            )
            yield replace(found, network=name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, write it as JSON, and say whether all is within tolerance."""
    parser = argparse.ArgumentParser(prog="python -m spine_export.parity", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for parity.json and parity.txt")
    parser.add_argument("--case", action="append", choices=list(CASES), help="default: all")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="default: all")
    options = parser.parse_args(arguments)
    found: list[Verification] = []
    for each in _run(options.case or list(CASES), options.precision or PRECISIONS):
        found.append(each)
        if options.out is not None:
            _write(options.out, found)
    missed = [f"{each.network}, {each.precision}: {clause}" for each in found for clause in each.missed]
    for clause in missed:
        print(f"misses its tolerance: {clause}", file=sys.stderr)
    return 1 if missed else 0


def _run(cases: Sequence[str], precisions: Sequence[str]) -> Iterator[Verification]:
    for name in cases:
        with tempfile.TemporaryDirectory(prefix="spine-parity-") as folder:
            for each in run_case(name, CASES[name], Path(folder), precisions=precisions):
                print(f"{each.network}\n{table(each.rows())}\n", flush=True)
                yield each


def _write(out: Path, found: Sequence[Verification]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    content: list[dict[str, Any]] = [each.to_json() for each in found]
    (out / "parity.json").write_text(json.dumps(content, indent=2) + "\n")
    rows = "\n\n".join(f"{each.network}\n{table(each.rows())}" for each in found)
    (out / "parity.txt").write_text(rows + "\n")


if __name__ == "__main__":
    os.environ.setdefault("nnUNet_def_n_proc", "1")
    # One core for both sides: so small networks lose more by waiting for threads than they gain.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sys.exit(main())
