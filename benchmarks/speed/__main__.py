"""``python -m speed``: SpineServe against nnUNetPredictor, part by part; a stopped run is taken up again.

Everything lands in one folder: pieces as they are measured, then bench.json, bench.md and plots of what is
there. ``--fresh`` measures the chosen parts anew.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from speed import compare as comparison
from speed import concurrency, growth, modes, plots
from speed.compare import Setting
from speed.machine import cores, kind
from speed.networks import NETWORKS, Shelf
from speed.report import report
from speed.results import Store
from speed.volumes import SMALL, VOLUMES, MissingImageError

PARTS = ("prepare", "compare", "growth", "concurrency")
MINUTES = {
    ("prepare", "demo"): 1.5,
    ("prepare", "full"): 5.0,
    ("compare", "demo"): 2.5,
    ("compare", "full"): 7.5,
    ("growth", "demo"): 6.0,
    ("concurrency", "demo"): 6.0,
    ("concurrency", "full"): 4.0,
}
"""Rough duration of a part on 2 cores with AVX512-BF16: `compare` of each volume at 3 rounds."""
_CROWDED = "lumbar_t2"
"""What four clients send at once."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing of the chosen parts, then write the report of everything there is."""
    chosen = _parser().parse_args(arguments)
    store, shelf = Store(chosen.out), Shelf(chosen.out / "networks")
    setting = Setting(store, shelf, chosen.threads, chosen.rounds, _say, tuple(chosen.mode))
    if not chosen.only_report:
        _say(f"{kind()}; about {_estimate(chosen):.0f} minutes if nothing is there yet, in {chosen.out}")
        for part in chosen.part:
            _run(part, setting, chosen)
    document = store.join()
    text = report(document)
    (chosen.out / "bench.md").write_text(text)
    plots.draw(document, chosen.out)
    print(text)
    return 0


def _run(part: str, setting: Setting, chosen: argparse.Namespace) -> None:
    if part == "prepare":
        _prepare(setting, chosen)
    elif part == "growth":
        growth.measure(setting, fresh=chosen.fresh)
    else:
        for network in chosen.network:
            for volume in chosen.volume if part == "compare" else (_CROWDED,):
                _measure(part, setting, network, volume, chosen)


def _prepare(setting: Setting, chosen: argparse.Namespace) -> None:
    """Export what the other parts would export on their way, so that measuring can start at once."""
    for network in chosen.network:
        for mode in setting.modes:
            _say(f"prepare: {network} network, mode {mode}")
            modes.repository(setting.shelf, network, mode)
    for classes in growth.CLASSES if "demo" in chosen.network else ():
        _say(f"prepare: {classes} classes")
        modes.repository(setting.shelf, f"width-{classes}", growth.MODE)


def _measure(part: str, setting: Setting, network: str, volume: str, chosen: argparse.Namespace) -> None:
    if chosen.fresh:
        setting.store.forget(part, f"{network}-{volume}")
    _say(f"{part}: {network} network on {volume}")
    try:
        if part == "compare":
            comparison.compare(setting, network, volume)
        else:
            concurrency.measure(setting, network, volume, count=chosen.soak)
    except MissingImageError as error:
        _say(f"left out: {error}")


def _estimate(chosen: argparse.Namespace) -> float:
    """Minutes."""
    total = 0.0
    for part in chosen.part:
        for network in chosen.network:
            minutes = MINUTES.get((part, network), 0.0)
            total += minutes * (len(chosen.volume) * (1 + chosen.rounds) / 4 if part == "compare" else 1)
    return total


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m speed", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=Path("out/bench"), help="results, and the exported networks (out/bench)")
    add("--part", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    add("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: both")
    add(
        "--volume",
        nargs="+",
        choices=(*VOLUMES, SMALL),
        default=list(VOLUMES),
        help="of `compare`; default: all",
    )
    add("--mode", nargs="+", choices=tuple(modes.MODES), default=list(modes.MODES), help="of SpineServe; all")
    add("--rounds", type=int, default=3, help="timed rounds of `compare` (3)")
    add("--soak", type=int, default=200, help="small volumes of `concurrency`'s look at memory (200)")
    add("--threads", type=int, default=cores(), help="of every system (all cores this process may use)")
    add("--fresh", action="store_true", help="forget what is there of the chosen parts")
    add("--only-report", action="store_true", help="measure nothing, write the report of what is there")
    return parser


_BEGAN = time.monotonic()


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("nnUNet_def_n_proc", str(cores()))
    sys.exit(main())
