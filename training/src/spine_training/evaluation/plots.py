"""Pictures of an evaluation: Bland–Altman plots, calibration, robustness; all drawn from its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spine_training.evaluation.scoring import METHODS
from spine_training.evaluation.statistics import error_figures

Content = Mapping[str, Any]
COLOURS = {"reported": "#1f5fa8", "cnn": "#c8641e", "geometric": "#3c8c50"}
BLAND_ALTMAN = {"height_mean": "Mean disc height", "canal_ap": "Canal AP diameter at the disc"}
DPI = 110


def draw_all(content: Content, folder: Path) -> dict[str, Path]:
    """Every picture there are figures for, by name, as PNG in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for quantity, title in BLAND_ALTMAN.items():
        found = {method: points(content, method, quantity) for method in METHODS}
        if any(len(p) for p in found.values()):
            drawn[f"bland_altman_{quantity}"] = _bland_altman(
                found, title, folder / f"bland_altman_{quantity}.png"
            )
    if content["calibration"]:
        drawn["calibration"] = _calibration(content, folder / "calibration.png")
    if content["robustness"]:
        drawn["robustness"] = _robustness(content["robustness"], folder / "robustness.png")
    return drawn


def points(content: Content, method: str, quantity: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(N, 3) true, found and stated standard error (NaN where none), mm, of the cases that count."""
    rows = []
    for level in _levels(content):
        true, found = level["true_mm"].get(quantity), level["found_mm"].get(method, {}).get(quantity)
        stated = level["error_mm"].get(method, {}).get(quantity)
        if true is not None and found is not None:
            rows.append((true, found, np.nan if stated is None else stated))
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _levels(content: Content) -> list[dict[str, Any]]:
    apart = set(content.get("apart_groups", ()))
    cases = [case for case in content["cases"] if not set(case["groups"]) & apart]
    return [level for case in cases for level in case["levels"]]


def _figure(columns: int, *, height: float = 3.6) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * columns, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path


def _bland_altman(found: Mapping[str, Any], title: str, path: Path) -> Path:
    """Error over the mean of both, with the mean error and its 95 % limits of agreement."""
    figure, axes = _figure(len(found))
    reach = max(_reach(p[:, 1] - p[:, 0]) for p in found.values())
    for axis, (method, values) in zip(axes, found.items(), strict=True):
        axis.set_title(f"{title}, {method}", fontsize=9)
        axis.set_xlabel("mean of ours and the reference, mm", fontsize=8)
        axis.set_ylim(-1.1 * reach, 1.1 * reach)
        axis.locator_params(axis="x", nbins=5)
        if not len(values):
            continue
        errors = values[:, 1] - values[:, 0]
        axis.scatter(values[:, :2].mean(axis=1), errors, s=9, alpha=0.6, color=COLOURS[method], linewidths=0)
        figures = error_figures(errors.tolist())
        for key, style in (("mean_mm", "-"), ("low_mm", "--"), ("high_mm", "--")):
            if figures[key] is not None:
                axis.axhline(figures[key], color="black", linestyle=style, linewidth=0.9)
                axis.annotate(f"{figures[key]:+.2f}", (1.0, figures[key]), xycoords=("axes fraction", "data"),
                              ha="right", va="bottom", fontsize=7)  # fmt: skip
    axes[0].set_ylabel("ours − reference, mm", fontsize=8)
    return _save(figure, path)


def _reach(errors: Any) -> float:
    """The largest of all errors and limits of agreement, without a sign."""
    figures = error_figures(errors.tolist())
    shown = [*errors, *(figures[key] for key in ("low_mm", "high_mm") if figures[key] is not None)]
    return max((abs(float(value)) for value in shown), default=0.0)


def _calibration(content: Content, path: Path) -> Path:
    """Stated standard error against the root mean square of the errors, in groups of equal size."""
    figure, axes = _figure(len(BLAND_ALTMAN))
    for axis, (quantity, title) in zip(axes, BLAND_ALTMAN.items(), strict=True):
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("stated standard error, mm", fontsize=8)
        top = 0.0
        for method in METHODS:
            values = points(content, method, quantity)
            values = values[~np.isnan(values[:, 2])]
            if len(values):
                stated, seen = _groups(values)
                axis.plot(stated, seen, "o-", markersize=4, linewidth=1, color=COLOURS[method], label=method)
                top = max(top, *stated, *seen)
        axis.plot([0, 1.1 * top], [0, 1.1 * top], color="black", linewidth=0.8, linestyle=":")
        axis.legend(fontsize=7, frameon=False)
    axes[0].set_ylabel("root mean square of the errors, mm", fontsize=8)
    return _save(figure, path)


def _groups(values: Any, most: int = 6) -> tuple[list[float], list[float]]:
    order = values[np.argsort(values[:, 2])]
    parts = np.array_split(order, min(most, max(1, len(order) // 8)))
    stated = [float(part[:, 2].mean()) for part in parts]
    return stated, [float(np.sqrt(np.mean((part[:, 1] - part[:, 0]) ** 2))) for part in parts]


def _robustness(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Dice of body, disc and canal, and the share of levels named, over how hard the cases were made."""
    names = sorted({row["stress"] for row in rows})
    figure, axes = _figure(len(names))
    for axis, name in zip(axes, names, strict=True):
        chosen = sorted((row for row in rows if row["stress"] == name), key=lambda row: float(row["level"]))
        levels = [f"{row['level']:g}" for row in chosen]
        for group, colour in zip(("body", "disc", "canal"), COLOURS.values(), strict=True):
            values = [np.nan if row["dice"][group] is None else row["dice"][group] for row in chosen]
            axis.plot(levels, values, "o-", markersize=4, linewidth=1.2, color=colour, label=f"Dice {group}")
        recall = [np.nan if row["names"]["recall"] is None else row["names"]["recall"] for row in chosen]
        axis.plot(levels, recall, "s:", markersize=4, linewidth=1.2, color="black", label="levels named")
        axis.set_ylim(0, 1.02)
        axis.set_title(name, fontsize=9)
    axes[0].legend(fontsize=7, frameon=False, loc="lower left")
    return _save(figure, path)
