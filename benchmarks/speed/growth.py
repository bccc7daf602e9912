"""Part `growth`: SpineServe's time and memory against voxels (twice over) and against classes.

``larger``: the field of view grows, and with it the tiles (nnU-Net's overlap makes them grow faster than the
voxels: 1 tile becomes 3 where a side doubles); so the network is held to the tiles, all else to the voxels.
``finer``: the same field of view in more voxels; the tiles stay. ``classes``: a network of the demo's width
with 5, 20 and 50 classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from statistics import median
from typing import Any

import numpy as np

from speed import machine, modes, networks, volumes
from speed.compare import Setting
from speed.memory import PeakMemory, tree_mib
from speed.systems import SpineServe
from spine_export.images import image_of
from spinecore.geometry import Volume

PART = "growth"
TIMES, CLASSES = (1, 2, 4, 8), (5, 20, 50)
SERIES = ("larger", "finer", "classes")
MODE = "default"
_ROUNDS, _LEAST_MIB = 3, 1.0
_CROP = slice(128, 384)


def measure(setting: Setting, *, fresh: bool) -> None:
    """Measure the series that are missing; all of them with `fresh`."""
    for series in SERIES:
        if fresh or not setting.store.read(PART, series):
            setting.say(f"growth: {series}")
            setting.store.write(PART, series, _series(setting, series))


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of a straight line through log y against log x: 1 is linear growth."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _series(setting: Setting, series: str) -> dict[str, Any]:
    points = []
    for point in _by_class(setting) if series == "classes" else _by_voxels(setting, series):
        points.append(point)
        setting.say(f"  {point['x']:g}: {point['seconds']:.2f} s, {point['peak_mib']:.0f} MiB")
    return {
        "series": series,
        "axis": "classes" if series == "classes" else "voxels",
        "mode": MODE,
        "threads": setting.threads,
        "provenance": machine.provenance(),
        "points": points,
        "exponents": _exponents(series, points),
    }


def _exponents(series: str, points: Sequence[dict[str, Any]]) -> dict[str, float]:
    x = [point["x"] for point in points]
    found = {
        "other seconds": exponent(x, [point["other_s"] for point in points]),
        "memory": exponent(x, [max(point["grown_mib"], _LEAST_MIB) for point in points]),
    }
    if series == "larger":
        tiles, network = zip(*((point["tiles"], point["network_s"]) for point in points), strict=True)
        return {**found, "network's seconds a tile": exponent(tiles, network)}
    return {**found, "seconds": exponent(x, [point["seconds"] for point in points])}


def _by_voxels(setting: Setting, series: str) -> Iterator[dict[str, Any]]:
    """One server; the volumes grow, so that its memory, which never shrinks, is the last one's."""
    base = _base(volumes.load(volumes.PHANTOM, cache=setting.shelf.folder))
    grow = volumes.larger if series == "larger" else volumes.finer
    with closing(_server(setting, "demo")) as server:
        idle = tree_mib(server.pid)
        for times in TIMES:
            volume = grow(base, times)
            yield {"x": math.prod(volume.shape_zyx), **_point(setting, server, "demo", volume, idle)}


def _by_class(setting: Setting) -> Iterator[dict[str, Any]]:
    volume = volumes.load(volumes.PHANTOM, cache=setting.shelf.folder)
    for classes in CLASSES:
        network = f"width-{classes}"
        with closing(_server(setting, network)) as server:
            yield {"x": classes, **_point(setting, server, network, volume, tree_mib(server.pid))}


def _point(
    setting: Setting, server: SpineServe, network: str, volume: Volume, idle_mib: float
) -> dict[str, Any]:
    """One round for memory, which warms up too, then timed ones."""
    spec = setting.shelf.trained(network).spec
    image = image_of(volume, spec, "phantom")
    with PeakMemory(server.pid) as memory:
        server.segment(image)
    answers = [server.segment(image) for _ in range(_ROUNDS)]
    return {
        "tiles": networks.tiles(volume, spec),
        "seconds": median(answer.seconds for answer in answers),
        "network_s": median(answer.stages["network"] for answer in answers),
        "other_s": median(answer.seconds - answer.stages["network"] for answer in answers),
        "peak_mib": memory.peak_mib,
        "grown_mib": memory.peak_mib - idle_mib,
    }


def _server(setting: Setting, network: str) -> SpineServe:
    logs = setting.store.folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    repository = modes.repository(setting.shelf, network, MODE)
    return SpineServe(repository, mode=MODE, log=logs / f"growth-{network}.log")


def _base(volume: Volume) -> Volume:
    """The middle quarter of the phantom's slices: one tile of the network."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([_CROP.start, _CROP.start, 0.0])
    return Volume(np.ascontiguousarray(volume.voxels[:, :, _CROP, _CROP]), affine)
