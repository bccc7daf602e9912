"""`make demo`: a DICOM series goes in, a measured report comes out.

Starts the real Triton server on free loopback ports, writes a phantom's MR series as DICOM (or takes the
folder given with --series), runs the same `spine analyze` that a user would type, and stops the server again.
For the phantom, whose true measurements are known, it prints them beside what was measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spine_server import EmbeddedTriton
from spinecore.phantom import Phantom, PhantomConfig, make_phantom
from spinecore.phantom.io import write_dicom

DEMO_SEED = 900_003  # from the range that no training run ever draws from
MOST_OFF_MM = 2.0
WIDTHS = (14, 8, 10, 18, 8, 10)


def main() -> int:
    """Run the demo; returns the exit code of `spine analyze`, or 1 if the phantom's report is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="where the report goes")
    parser.add_argument("--series", type=Path, help="a DICOM folder of your own (default: a phantom)")
    arguments = parser.parse_args()

    phantom, series = None, arguments.series
    if series is None:
        phantom, series = _phantom_series(arguments.out / "series")
    _say("starting Triton (CPU profile, loopback only)")
    with EmbeddedTriton() as server:
        _say(f"ready at {server.grpc_url}")
        exit_code = _analyze(series, out=arguments.out, url=server.grpc_url)
        _say("stopping the server")
    if exit_code == 0 and phantom is not None:
        exit_code = _compare(phantom, json.loads((arguments.out / "report.json").read_text()))
    return exit_code


def _analyze(series: Path, *, out: Path, url: str) -> int:
    """What a user would type; returns its exit code."""
    command = ["spine", "analyze", str(series), "--out", str(out), "--url", url]
    _say("$ " + " ".join(command))
    started = time.monotonic()
    beside_python = Path(sys.executable).parent / command[0]
    exit_code = subprocess.run([str(beside_python), *command[1:]], check=False).returncode
    _say(f"that took {time.monotonic() - started:.1f} s")
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
    """Print truth beside measurement for every disc in view; 1 if one is missing or more than 2 mm off.

    A disc that the report itself flags as cut by the field of view is shown, not judged.
    """
    found = {disc["name"]: disc for disc in report["discs"] if disc["name"]}
    heads = ("height: true", "CNN", "geometry", "canal AP: true", "CNN", "geometry")
    print("\nThe phantom's true values beside the measured ones (mm)\n")
    print(f"{'disc':8}" + _cells(heads))
    wrong = 0
    for truth in (disc for disc in phantom.truth.discs if disc.complete):
        disc = found.get(truth.name)
        if disc is None:
            print(f"{truth.name:8}{truth.mean_mm:14.1f}  not found")
            wrong += 1
            continue
        heights = (
            truth.mean_mm,
            (disc["height_mm"]["cnn"] or {}).get("mean"),
            disc["height_mm"]["geometric"]["mean"],
        )
        canals = truth.canal_ap_mm, disc["canal_ap_mm"]["cnn"], disc["canal_ap_mm"]["geometric"]
        print(f"{truth.name:8}" + _cells([f"{v:.1f}" if v is not None else "–" for v in (*heights, *canals)]))
        pairs = heights[:2], canals[:2]
        off = [abs(measured - true) > MOST_OFF_MM for true, measured in pairs if measured is not None]
        wrong += disc["complete"] and (any(off) or len(off) < len(pairs))
    print("\nPhantom truth and network weights are synthetic: research software, not a medical device.")
    return 1 if wrong else 0


def _cells(texts: Sequence[str]) -> str:
    return "".join(text.rjust(width) for text, width in zip(texts, WIDTHS, strict=True))


def _say(text: str) -> None:
    print(f"demo: {text}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
