"""Part `compare`: the systems in turn on one volume, round by round; wall time, memory, stages, agreement.

Each system first answers the volume once for memory, which is its warm-up too; then come the timed rounds,
the systems' order turned by one from round to round. What is done is kept after every round.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from speed import machine, modes, networks, volumes
from speed.engine import engine_seconds
from speed.memory import PeakMemory
from speed.results import Store
from speed.systems import Answer, PlainPredictor, SpineServe, System, WebServer
from spine_export.agreement import agreement
from spine_export.images import Image, image_of

PART = "compare"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """What all parts of a run share."""

    store: Store
    shelf: networks.Shelf
    threads: int
    rounds: int
    say: Say
    modes: tuple[str, ...] = tuple(modes.MODES)


def compare(setting: Setting, network: str, volume: str) -> dict[str, Any]:
    """Measure what is missing of `network` on `volume`, up to `setting.rounds` rounds; the piece."""
    name = f"{network}-{volume}"
    piece = setting.store.read(PART, name) or _new_piece(setting, network, volume)
    trained = setting.shelf.trained(network)
    image = image_of(volumes.load(volume, cache=setting.shelf.folder), trained.spec, volume)
    wanted = ["nnunet", "fastapi", *(f"spineserve {mode}" for mode in setting.modes)]
    if all(len(piece["systems"].get(each, {}).get("seconds", [])) >= setting.rounds for each in wanted):
        setting.say(f"{network} on {volume}: all {setting.rounds} rounds are there")
        return piece
    piece["provenance"] = _joined(piece["provenance"], machine.provenance())
    _measure_machine(piece, setting, network)
    setting.store.write(PART, name, piece)
    with _running(setting, network, wanted) as systems:
        _warm_up(
            piece, systems, image, {n: str(label) for label, n in trained.spec.labels.items() if n}, setting
        )
        setting.store.write(PART, name, piece)
        while (done := _fewest(piece, wanted)) < setting.rounds:
            _round(piece, systems[done % len(systems) :] + systems[: done % len(systems)], image, setting.say)
            setting.store.write(PART, name, piece)
    return piece


def _new_piece(setting: Setting, network: str, volume: str) -> dict[str, Any]:
    trained = setting.shelf.trained(network)
    loaded = volumes.load(volume, cache=setting.shelf.folder)
    return {
        "network": network,
        "volume": volume,
        "shape_zyx": list(loaded.shape_zyx),
        "spacing_zyx_mm": [round(float(each), 4) for each in loaded.spacing_zyx],
        "classes": trained.spec.num_outputs,
        "tiles": networks.tiles(loaded, trained.spec),
        "threads": setting.threads,
        "patch_flops": networks.patch_flops(trained),
        "provenance": {},
        "systems": {},
    }


def _joined(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The newest provenance; `commits` lists all that contributed rounds."""
    commits = [*before.get("commits", []), now["commit"]]
    return {**now, "commits": list(dict.fromkeys(commits))}


def _measure_machine(piece: dict[str, Any], setting: Setting, network: str) -> None:
    """The machine's peak and the engines alone, in the same run as what is held to them."""
    setting.say("the machine's peak, and each engine alone on one patch")
    piece["peak_flops"] = machine.peak_flops(threads=setting.threads)
    piece["engine_patch_s"] = piece.get("engine_patch_s", {}) | {
        mode: _engine_alone(modes.repository(setting.shelf, network, mode), mode, setting.threads)
        for mode in setting.modes
    }


def _engine_alone(repository: Path, mode: str, threads: int) -> float:
    return engine_seconds(repository, modes.served_model(repository, mode), threads=threads)


@contextlib.contextmanager
def _running(setting: Setting, network: str, wanted: Sequence[str]) -> Iterator[list[System]]:
    """All systems, started one after another; idle ones do nothing while another is measured."""
    spec, results = setting.shelf.trained(network).spec, setting.shelf.results(network)
    logs = setting.store.folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    starts: dict[str, Callable[[], System]] = {
        "nnunet": lambda: PlainPredictor(results, spec, threads=setting.threads),
        "fastapi": lambda: WebServer(results, spec, threads=setting.threads, log=logs / "fastapi.log"),
    }
    for mode in setting.modes:
        starts[f"spineserve {mode}"] = _server(setting, network, mode, logs)
    with contextlib.ExitStack() as stack:
        systems = []
        for name in wanted:
            setting.say(f"starting {name}")
            systems.append(starts[name]())
            stack.callback(systems[-1].close)
        yield systems


def _server(setting: Setting, network: str, mode: str, logs: Path) -> Callable[[], System]:
    repository = modes.repository(setting.shelf, network, mode)
    return lambda: SpineServe(repository, mode=mode, log=logs / f"spineserve-{network}-{mode}.log")


def _warm_up(
    piece: dict[str, Any], systems: Sequence[System], image: Image, names: dict[Any, str], setting: Setting
) -> None:
    """One answer of each system: peak memory of its processes, and how far its labels agree with (a)'s."""
    reference: np.ndarray[Any, Any] | None = None
    for system in systems:
        with PeakMemory(system.pid) as memory:
            answer = system.segment(image)
        reference = answer.labels if reference is None else reference
        kept = piece["systems"].setdefault(system.name, {"seconds": [], "stages": []})
        kept |= {"start_mib": memory.start_mib, "peak_mib": memory.peak_mib}
        kept["agreement"] = agreement(answer.labels, reference, names)
        setting.say(f"  {system.name}: warm-up {answer.seconds:.2f} s, peak {memory.peak_mib:.0f} MiB")


def _round(piece: dict[str, Any], systems: Sequence[System], image: Image, say: Say) -> None:
    told = []
    for system in systems:
        answer: Answer = system.segment(image)
        kept = piece["systems"][system.name]
        kept["seconds"].append(answer.seconds)
        kept["stages"].append(dict(answer.stages))
        told.append(f"{system.name} {answer.seconds:.2f}")
    say(f"  round {_fewest(piece, [system.name for system in systems])}: {', '.join(told)} s")


def _fewest(piece: dict[str, Any], names: Sequence[str]) -> int:
    return min(len(piece["systems"].get(name, {}).get("seconds", [])) for name in names)


def median_stages(stages: Sequence[dict[str, float]]) -> dict[str, float]:
    """Median of each stage over the rounds."""
    return {key: median(each[key] for each in stages) for key in (stages[0] if stages else {})}
