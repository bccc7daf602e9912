"""Plots of what was measured, as PNG: wall time and memory by system, stages, growth."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

_COLOURS = {
    "nnunet": "#8a8f98",
    "fastapi": "#c3c7cd",
    "spineserve exact": "#9ecae1",
    "spineserve default": "#3182bd",
    "spineserve fast": "#08306b",
}
_STAGE_COLOURS = {
    "preprocess": "#66a61e",
    "network": "#3182bd",
    "handing": "#e7298a",
    "window": "#e6ab02",
    "merge": "#e6ab02",
    "export": "#d95f02",
    "transfer": "#7570b3",
}


def draw(document: dict[str, Any], folder: Path) -> list[Path]:
    """Write the plots that `document` has figures for."""
    pieces = [piece for piece in document["compare"] if piece["systems"].get("nnunet", {}).get("seconds")]
    written = []
    for network in dict.fromkeys(piece["network"] for piece in pieces):
        own = [piece for piece in pieces if piece["network"] == network]
        written.append(_comparison(network, own, folder / f"compare-{network}.png"))
    if document["growth"]:
        written.append(_growth(document["growth"], folder / "growth.png"))
    return written


def _comparison(network: str, pieces: list[dict[str, Any]], path: Path) -> Path:
    """Left: wall time with its range; middle: stages; right: memory. One row of bars per volume."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 1.2 + 1.6 * len(pieces)), sharey=True)
    names, place = [], 0.0
    for piece in pieces:
        for system, kept in piece["systems"].items():
            if kept["seconds"]:
                _bars(axes, place, system, kept)
                names.append((place, f"{piece['volume']}: {system}"))
                place -= 1.0
        place -= 0.6
    axes[0].set_yticks([at for at, _ in names], [name for _, name in names])
    titles = ("seconds: median, min to max", "seconds by stage", "peak memory of all processes, MiB")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in _STAGE_COLOURS.values()]
    axes[1].legend(handles, _STAGE_COLOURS, fontsize=7, frameon=False)
    figure.suptitle(f"{network} network; {pieces[0]['provenance']['machine']}", fontsize=11)
    return _save(figure, path)


def _bars(axes: Any, place: float, system: str, kept: dict[str, Any]) -> None:
    seconds = kept["seconds"]
    middle = median(seconds)
    error = [[middle - min(seconds)], [max(seconds) - middle]]
    axes[0].barh(place, middle, xerr=error, color=_COLOURS.get(system, "#3182bd"))
    axes[0].text(max(seconds), place, f"  {middle:.2f}", va="center", fontsize=8)
    left = 0.0
    for stage, colour in _STAGE_COLOURS.items():
        if kept["stages"][0] and stage in kept["stages"][0]:
            width = max(0.0, median(each[stage] for each in kept["stages"]))
            axes[1].barh(place, width, left=left, color=colour)
            left += width
    axes[2].barh(place, kept["peak_mib"], color=_COLOURS.get(system, "#3182bd"))


def _growth(pieces: list[dict[str, Any]], path: Path) -> Path:
    """Upper row: seconds, whole and without the network; lower row: memory. Dotted: linear from the first."""
    figure, axes = plt.subplots(2, len(pieces), figsize=(4.6 * len(pieces), 7), squeeze=False)
    for column, piece in enumerate(pieces):
        x = [point["x"] for point in piece["points"]]
        lines = (("seconds", "whole"), ("network_s", "network"), ("other_s", "not the network"))
        for key, name in lines:
            _line(axes[0][column], x, [point[key] for point in piece["points"]], name)
        _line(axes[1][column], x, [point["peak_mib"] for point in piece["points"]], "peak, all processes")
        _line(axes[1][column], x, [point["grown_mib"] for point in piece["points"]], "above idle")
        for row, unit in enumerate(("seconds", "MiB")):
            axis: Axes = axes[row][column]
            axis.set(xlabel=piece["axis"], ylabel=unit, xscale="log", yscale="log")
            axis.legend(fontsize=7, frameon=False)
        axes[0][column].set_title(f"{piece['series']}", fontsize=10)
    figure.suptitle(f"Growth; {pieces[0]['provenance']['machine']}", fontsize=11)
    return _save(figure, path)


def _line(axis: Axes, x: list[float], y: list[float], name: str) -> None:
    (drawn,) = axis.plot(x, y, marker="o", label=name)
    axis.plot(x, [y[0] * each / x[0] for each in x], ls=":", lw=0.8, color=drawn.get_color())


def _save(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
