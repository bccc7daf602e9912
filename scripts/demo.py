"""`make demo`: a DICOM series goes in, a measured report comes out.

Starts the real Triton server on free loopback ports, writes a phantom's MR series as DICOM (or takes the folder
given with --series), runs the same `spine analyze` that a user would type, and stops the server again. For the
phantom, whose true measurements are known, it prints them beside what was measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from spine_server import EmbeddedTriton
from spinecore.phantom import Phantom, PhantomConfig, make_phantom
from spinecore.phantom.io import write_dicom

DEMO_SEED = 900_003  # from the range that no training run ever draws from


def main() -> int:
    """Run the demo; returns the exit code of `spine analyze`, or 1 if the phantom's report is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="where the report goes")
    parser.add_argument("--series", type=Path, help="a DICOM folder of your own (default: a phantom is made)")
    arguments = parser.parse_args()

    phantom, series = (None, arguments.series) if arguments.series else _phantom_series(arguments.out / "series")
    _say("starting Triton (CPU profile, loopback only)")
    with EmbeddedTriton() as server:
        _say(f"ready at {server.grpc_url}")
        command = ["spine", "analyze", str(series), "--out", str(arguments.out), "--url", server.grpc_url]
        _say("$ " + " ".join(command))
        started = time.monotonic()
        exit_code = subprocess.run([str(Path(sys.executable).parent / "spine"), *command[1:]], check=False).returncode
        _say(f"analysed in {time.monotonic() - started:.1f} s; stopping the server")
    if exit_code == 0 and phantom is not None:
        exit_code = _compare(phantom, json.loads((arguments.out / "report.json").read_text()))
    return exit_code


def _phantom_series(folder: Path) -> tuple[Phantom, Path]:
    _say(f"drawing a lumbar phantom (seed {DEMO_SEED}) and writing it as a DICOM series to {folder}")
    phantom = make_phantom(
        PhantomConfig(
            seed=DEMO_SEED,
            region="lumbar",
            contrast="t2",
            orientation="PIR",  # a sagittal series
            spacing_mm=(3.3, 0.8, 0.8),
            fov_mm=(270.0, 220.0, 72.0),
        )
    )
    write_dicom(phantom, folder)
    return phantom, folder


def _compare(phantom: Phantom, report: dict[str, Any]) -> int:
    """Print truth beside measurement for every complete disc; 1 if one is missing or more than 2 mm off."""
    found = {disc["name"]: disc for disc in report["discs"] if disc["name"]}
    print("\nThe phantom's true values beside the measured ones (mm)\n")
    print(f"{'disc':8}{'height: true':>14}{'CNN':>8}{'geometry':>10}{'canal AP: true':>18}{'CNN':>8}{'geometry':>10}")
    wrong = 0
    for truth in (disc for disc in phantom.truth.discs if disc.complete):
        disc = found.get(truth.name)
        if disc is None:
            print(f"{truth.name:8}{truth.mean_mm:14.1f}  not found")
            wrong += 1
            continue
        height, canal = disc["height_mm"], disc["canal_ap_mm"]
        row = [truth.mean_mm, (height["cnn"] or {}).get("mean"), height["geometric"]["mean"]]
        row += [truth.canal_ap_mm, canal["cnn"], canal["geometric"]]
        cells = [f"{value:.1f}" if value is not None else "–" for value in row]
        print(f"{truth.name:8}" + "".join(cell.rjust(width) for cell, width in zip(cells, (14, 8, 10, 18, 8, 10), strict=True)))
        wrong += any(v is None or abs(v - t) > 2.0 for t, v in ((row[0], row[1]), (row[3], row[4])))
    print("\nPhantom truth and network weights are synthetic: research software, not a medical device.")
    return 1 if wrong else 0


def _say(text: str) -> None:
    print(f"demo: {text}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
