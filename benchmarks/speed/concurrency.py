"""Part `concurrency`: four clients at once; a small volume beside a large one; memory over many volumes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from statistics import median
from typing import Any

import numpy as np

from speed import machine, modes, volumes
from speed.compare import Setting
from speed.memory import tree_mib
from speed.systems import SpineServe
from spine_export.images import Image, image_of

PART = "concurrency"
CLIENTS, MODE = 4, "default"
_ALONE, _EACH, _LARGE_ROUNDS = 3, {"full": 6, "demo": 6}, 3
_SAMPLE_EVERY, _SETTLED_AFTER = 10, 20


def measure(setting: Setting, network: str, volume: str, *, count: int) -> None:
    """Measure what is missing, each finding kept as it comes; memory with the demo network alone."""
    piece = setting.store.read(PART, f"{network}-{volume}") or {"network": network, "volume": volume}
    wanted: dict[str, Callable[[SpineServe], dict[str, Any]]] = {
        "throughput": lambda server: _throughput(server, _image(setting, network, volume), _EACH[network]),
        "fairness": lambda server: _fairness(
            server, _image(setting, network, "small"), _image(setting, network, "phantom")
        ),
    }
    if network == "demo":
        wanted["memory"] = lambda server: _memory(server, _image(setting, network, "small"), count)
    missing = {name: work for name, work in wanted.items() if name not in piece}
    if not missing:
        return setting.say("all there")
    piece["provenance"], piece["mode"] = machine.provenance(), MODE
    logs = setting.store.folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    repository = modes.repository(setting.shelf, network, MODE)
    with closing(SpineServe(repository, mode=MODE, log=logs / f"concurrency-{network}.log")) as server:
        for name, work in missing.items():
            setting.say(f"  {name}")
            piece[name] = work(server)
            setting.store.write(PART, f"{network}-{volume}", piece)
    return None


def _image(setting: Setting, network: str, volume: str) -> Image:
    loaded = volumes.load(volume, cache=setting.shelf.folder)
    return image_of(loaded, setting.shelf.trained(network).spec, volume)


def _throughput(server: SpineServe, image: Image, each: int) -> dict[str, Any]:
    """`CLIENTS` at once, `each` volumes each, against the network's own seconds, alone before and after."""
    server.segment(image)
    alone = [server.segment(image).stages["network"] for _ in range(_ALONE)]
    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        latencies = list(pool.map(lambda _: server.segment(image).seconds, range(CLIENTS * each)))
    seconds = time.perf_counter() - began
    alone += [server.segment(image).stages["network"] for _ in range(_ALONE)]
    count, network_s = CLIENTS * each, median(alone)
    return {
        "clients": CLIENTS,
        "volumes": count,
        "seconds": seconds,
        "latencies_s": latencies,
        "network_s": network_s,
        "alone_s": alone,
        "per_hour": 3600.0 * count / seconds,
        "allowed_per_hour": 3600.0 / network_s,
        "part": count * network_s / seconds,
    }


def _fairness(server: SpineServe, small: Image, large: Image) -> dict[str, Any]:
    """The slowdown of a small volume, sent again and again, and of a large one, beside each other."""
    small_alone, large_alone = (_alone(server, image) for image in (small, large))
    done, beside = threading.Event(), []

    def keep_sending() -> None:
        while not done.is_set():
            beside.append(server.segment(small).seconds)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(keep_sending)
        large_s = median(server.segment(large).seconds for _ in range(_LARGE_ROUNDS))
        done.set()
        sending.result()
    small_s = median(beside)
    return {
        "small_alone_s": small_alone,
        "large_alone_s": large_alone,
        "small_s": small_s,
        "small_longest_s": max(beside),
        "large_s": large_s,
        "small_slowdown": small_s / small_alone,
        "large_slowdown": large_s / large_alone,
        "ratio": (small_s / small_alone) / (large_s / large_alone),
    }


def _alone(server: SpineServe, image: Image) -> float:
    server.segment(image)
    return median(server.segment(image).seconds for _ in range(_ALONE))


def _memory(server: SpineServe, image: Image, count: int) -> dict[str, Any]:
    """Memory of all processes after every `_SAMPLE_EVERY` volumes of `CLIENTS` clients."""
    samples: list[tuple[int, float]] = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        for start in range(0, count, _SAMPLE_EVERY):
            list(pool.map(lambda _: server.segment(image), range(_SAMPLE_EVERY)))
            samples.append((start + _SAMPLE_EVERY, tree_mib(server.pid)))
    return {"volumes": count, "samples_mib": samples, **grown(samples)}


def grown(samples: list[tuple[int, float]]) -> dict[str, float]:
    """MiB by which a straight line through the samples rises, those of the first volumes left out."""
    settled = [sample for sample in samples if sample[0] >= _SETTLED_AFTER] or samples
    after, mib = np.array(settled).T
    slope = float(np.polyfit(after, mib, 1)[0]) if len(settled) > 1 else 0.0
    return {
        "after": float(after[0]),
        "first_mib": float(mib[0]),
        "last_mib": float(mib[-1]),
        "grown_mib": slope * float(after[-1] - after[0]),
    }
