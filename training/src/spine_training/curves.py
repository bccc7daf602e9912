"""Training curves: the CSV a training wrote, and a picture of it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

Columns = dict[str, list[float]]


def read_curve(path: Path) -> Columns:
    """Column name -> values of a curve's CSV."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def publish_curve(source: Path, folder: Path, name: str, *, x: str) -> list[Path]:
    """Copy a curve's CSV to ``folder/<name>.csv`` and draw ``folder/<name>.png``; `x` names the x column.

    Nothing where there is no CSV: a CNN that was only put on the line of the truth (no epochs) has none.
    """
    if not source.is_file():
        return []
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = folder / f"{name}.csv", folder / f"{name}.png"
    shutil.copyfile(source, table)
    _draw(read_curve(table), picture, x)
    return [table, picture]


def draw_curve(table: Path, *, x: str) -> Path | None:
    """Draw a curve's CSV as a PNG beside it; None if there is no CSV yet."""
    if not table.is_file():
        return None
    picture = table.with_suffix(".png")
    _draw(read_curve(table), picture, x)
    return picture


def _draw(columns: Columns, path: Path, x: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, values in columns.items():
        axes = left if name.endswith("loss") else right if "_dice_" in name or "_mse_" in name else None
        if axes is not None:
            axes.plot(columns[x], values, label=name, linewidth=1.2)
    left.set_title("loss")
    right.set_title("validation")
    for axes in (left, right):
        axes.set_xlabel(x)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})
