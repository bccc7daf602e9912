"""What is aimed at, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from speed.modes import MODES

FASTER = {"exact": 1.7, "default": 3.5, "fast": 7.0}
"""Times as fast as nnUNetPredictor, full network."""
MEAN_DICE = {"default": 0.99, "fast": 0.98}
EXACT_DICE = 0.999
DEMO_FASTER, DEMO_SECONDS = 3.0, 2.5
OTHER_SHARE, MEMORY_SHARE, OVER_PEAK = 0.10, 0.60, 1.3
LINEAR = 1.05
"""Largest exponent of growth that still counts as linear: what is left of it is noise."""
THROUGHPUT, UNFAIR, GROWN_MIB = 0.95, 1.5, 16.0


@dataclass(frozen=True)
class Verdict:
    """One target: on what, what was found, what is asked (``at least`` or ``at most``)."""

    target: str
    where: str
    found: float
    asked: float
    at_least: bool

    @property
    def reached(self) -> bool:
        """Whether the target is met."""
        return self.found >= self.asked if self.at_least else self.found <= self.asked

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "reached": self.reached}


def verdicts(document: dict[str, Any]) -> list[Verdict]:
    """All targets that `document`, as `results.Store.join` makes it, has figures for."""
    found = [
        verdict for piece in document["compare"] if _complete(piece) for verdict in _of_comparison(piece)
    ]
    found += [verdict for piece in document["growth"] for verdict in _of_growth(piece)]
    return found + [verdict for piece in document["concurrency"] for verdict in _of_concurrency(piece)]


def times_faster(piece: dict[str, Any], system: str) -> float:
    """How many times as fast as nnUNetPredictor, by the medians."""
    systems = piece["systems"]
    return median(systems["nnunet"]["seconds"]) / median(systems[system]["seconds"])


def other_share(piece: dict[str, Any], system: str) -> float:
    """Part of the wall time that is not the network's stage; median over the rounds."""
    kept = piece["systems"][system]
    rounds = zip(kept["stages"], kept["seconds"], strict=True)
    return median(1.0 - stages["network"] / seconds for stages, seconds in rounds)


def over_peak(piece: dict[str, Any], mode: str) -> float:
    """The network's stage against its operations at the machine's measured peak in the mode's arithmetic."""
    stages = piece["systems"][f"spineserve {mode}"]["stages"]
    ideal = piece["patch_flops"] / piece["peak_flops"][MODES[mode].arithmetic]
    return median(each["network"] / each["patches"] for each in stages) / ideal


def memory_share(piece: dict[str, Any], system: str) -> float:
    """Peak memory of all its processes, as a part of nnUNetPredictor's."""
    return float(piece["systems"][system]["peak_mib"] / piece["systems"]["nnunet"]["peak_mib"])


def _complete(piece: dict[str, Any]) -> bool:
    return bool(piece["systems"].get("nnunet", {}).get("seconds"))


def _of_comparison(piece: dict[str, Any]) -> Iterator[Verdict]:
    where = f"{piece['network']}, {piece['volume']}"
    for mode in MODES:
        system = f"spineserve {mode}"
        kept = piece["systems"].get(system, {})
        if not kept.get("seconds"):
            continue
        if piece["network"] == "full":
            yield from _of_full(piece, mode, where)
        elif (piece["volume"], mode) == ("lumbar_t2", "default"):
            yield Verdict("default: times faster", where, times_faster(piece, system), DEMO_FASTER, True)
            yield Verdict("default: seconds", where, median(kept["seconds"]), DEMO_SECONDS, False)
        yield from _of_agreement(kept["agreement"], mode, where)


def _of_full(piece: dict[str, Any], mode: str, where: str) -> Iterator[Verdict]:
    system = f"spineserve {mode}"
    yield Verdict(f"{mode}: times faster", where, times_faster(piece, system), FASTER[mode], True)
    yield Verdict(f"{mode}: not the network", where, other_share(piece, system), OTHER_SHARE, False)
    yield Verdict(f"{mode}: peak memory", where, memory_share(piece, system), MEMORY_SHARE, False)
    if mode != "fast":
        yield Verdict(f"{mode}: network over peak", where, over_peak(piece, mode), OVER_PEAK, False)


def _of_agreement(found: dict[str, Any], mode: str, where: str) -> Iterator[Verdict]:
    if found["mean"] is None:
        return
    if mode == "exact":
        yield Verdict("exact: worst Dice", where, found["worst"], EXACT_DICE, True)
    elif mode == "default" or where.startswith("demo"):
        yield Verdict(f"{mode}: mean Dice", where, found["mean"], MEAN_DICE[mode], True)


def _of_growth(piece: dict[str, Any]) -> Iterator[Verdict]:
    for name, exponent in piece["exponents"].items():
        yield Verdict(f"growth exponent, {name}", piece["series"], exponent, LINEAR, False)


def _of_concurrency(piece: dict[str, Any]) -> Iterator[Verdict]:
    where = f"{piece['network']}, {piece['volume']}"
    if "throughput" in piece:
        yield Verdict(
            "throughput of what the network allows", where, piece["throughput"]["part"], THROUGHPUT, True
        )
    if "fairness" in piece:
        yield Verdict(
            "small against large volume's slowdown", where, piece["fairness"]["ratio"], UNFAIR, False
        )
    if "memory" in piece:
        yield Verdict("MiB grown over the volumes", where, piece["memory"]["grown_mib"], GROWN_MIB, False)
