"""An evaluation as Markdown and as one self-contained HTML page, both from its JSON."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spine_training.evaluation.reference import CANAL_BODY, CANAL_MIN, FROM_MASKS
from spine_training.evaluation.statistics import CANAL_TOLERANCE_MM

Content = Mapping[str, Any]
NOT_A_DEVICE = "Research software, not a medical device: no figure here was validated for use on patients."
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}td,th{padding:.2rem .7rem;
border-bottom:1px solid #ddd;text-align:left}th{border-bottom:2px solid #888}img{max-width:100%}"""
_TITLES = {
    "height_anterior": "disc height, anterior",
    "height_middle": "disc height, middle",
    "height_posterior": "disc height, posterior",
    "height_mean": "disc height, mean",
    "canal_ap": "canal AP at the disc",
    CANAL_MIN: "canal AP, smallest near the disc",
    CANAL_BODY: "canal AP at mid-body",
}


def markdown(content: Content, pictures: Mapping[str, Path]) -> str:
    """The whole page; pictures are linked by their file names."""
    return "\n\n".join(_page(content, pictures)) + "\n"


def _page(content: Content, pictures: Mapping[str, Path]) -> Iterable[str]:
    yield "# Evaluation"
    yield NOT_A_DEVICE
    yield _about(content)
    yield "## In short"
    yield summary_table(content)
    yield "## Table 4: Dice"
    yield (
        "Each vertebra and disc against whatever one of ours overlaps it most, under any name. The paper's "
        "figures by region are those of its abstract."
    )
    yield dice_table(content)
    yield "## Table 5: mean squared error and agreement"
    yield _error_note(content)
    yield error_table(content)
    yield from _pictures(pictures, "bland_altman")
    yield "## Table 6: finding and naming the levels"
    yield (
        "Precision: of the discs given this name, those that are it. Recall: of the discs wholly in view in "
        "volumes that show C2 or the sacrum, those found under this name. Detected: of all discs wholly in "
        f"view, those found under any name or none. Canal AP counts as right within {CANAL_TOLERANCE_MM:g} "
        "mm of the reference; the paper does not say how it counted."
    )
    yield naming_table(content)
    yield "## Standard errors"
    yield calibration_table(content)
    yield from _pictures(pictures, "calibration")
    yield from _robustness(content, pictures)
    yield from _apart(content)
    yield from _failures(content)


def _about(content: Content) -> str:
    lines = [f"- Cases: {content['note']}; {content['summary']['cases']} scored."]
    lines += [f"- Lengths are compared with {source}." for source in content["references"]]
    for role, model in content["models"].items():
        lines.append(
            f"- {role.capitalize()}: {model['name']} {model['version']}, trained on {model['trained_on']}, "
            f"SHA-256 {model['sha256'][:12]}…"
        )
    lines += [
        f"- {key.capitalize()}: {content[key]}." for key in ("machine", "date", "command") if content.get(key)
    ]
    return "\n".join(lines)


def _error_note(content: Content) -> str:
    if FROM_MASKS in content["references"]:
        return (
            "The reference masks were measured by the server's own geometric method: these errors show what "
            "segmentation and CNN add to it, not the method's own error."
        )
    return "Against the phantoms' analytic surfaces. Errors are ours minus the reference."


def summary_table(content: Content) -> str:
    """Dice, names and errors over all cases that count."""
    summary = content["summary"]
    names, discs = summary["names"], summary["discs"]
    rows = [(f"Dice {group}", _number(value, 3)) for group, value in summary["dice"].items()]
    rows += [
        ("names that are right", _part(names["right"], names["named"])),
        ("levels named, where an anchor is in view", _part(names["recalled"], names["expected"])),
        ("levels named, where only an edge of one is", _part(names["edge_recalled"], names["edge_expected"])),
        ("found levels left without a name", _part(names["levels_unnamed"], names["levels_found"])),
        ("discs found", _part(discs["found"], discs["expected"])),
    ]
    for quantity, title in _TITLES.items():
        values = [summary["mse_mm2"][m][quantity] for m in ("reported", "cnn", "geometric")]
        if any(value is not None for value in values):
            shown = " / ".join(_number(value, 2) for value in values)
            rows.append((f"{title}: MSE in mm², reported / CNN / geometry", shown))
    return _table(("", "measured"), rows)


def dice_table(content: Content) -> str:
    """Table 4."""
    rows = [
        (row["region"], row["structure"], _number(row["paper"], 2), _number(row["dice"], 3),
         _number(row["lowest"], 3), str(row["n"]))
        for row in _in_view(content["tables"]["dice"], lambda row: row["n"])
    ]  # fmt: skip
    return _table(("region", "structure", "paper", "ours", "lowest", "n"), rows)


def error_table(content: Content) -> str:
    """Table 5."""
    rows = []
    for row in _in_view(content["tables"]["errors"], lambda row: row["reported"]["n"]):
        ours = row["reported"]
        name = row["level"] if row["region"] != "all" else _TITLES[row["quantity"]]
        rows.append(
            (row["region"], name, _number(row["paper_mse_mm2"], 1), _number(ours["mse_mm2"], 2),
             _signed(ours["mean_mm"]), _limits(ours), _number(row["cnn"]["mse_mm2"], 2),
             _number(row["geometric"]["mse_mm2"], 2), str(ours["n"]))
        )  # fmt: skip
    heads = ("region", "level", "paper MSE", "ours", "mean error", "95 % limits", "CNN", "geometry", "n")
    return _table(heads, rows)


def naming_table(content: Content) -> str:
    """Table 6."""
    rows = []
    for row in _in_view(content["tables"]["naming"], lambda row: row["true"] + row["claimed"]):
        theirs = row["paper"] or (None, None)
        rows.append(
            (row["region"], row["level"], _number(theirs[0], 1), _number(row["precision"], 1),
             _number(theirs[1], 1), _number(row["recall"], 1), _number(row["detected"], 1),
             f"{row['claimed']} / {row['expected']} / {row['true']}")
        )  # fmt: skip
    heads = (
        "region",
        "level",
        "paper precision",
        "ours",
        "paper recall",
        "ours",
        "detected",
        "named / expected / true",
    )
    return _table(heads, rows)


def _in_view(rows: Sequence[Content], count: Callable[[Content], int]) -> list[Content]:
    """Rows of the regions that some case shows, all of their levels."""
    shown = {row["region"] for row in rows if count(row)}
    return [row for row in rows if row["region"] in shown]


def calibration_table(content: Content) -> str:
    """How honest the standard errors are."""
    if not content["calibration"]:
        return "The server stated no standard errors."
    rows = [
        (
            _TITLES[row["quantity"]],
            row["method"],
            f"{100 * row['within_1']:.0f} %",
            f"{100 * row['within_1_96']:.0f} %",
            _number(row["ratio"], 2),
            _number(row["stated_mm"], 2),
            str(row["n"]),
        )
        for row in content["calibration"]
    ]
    note = "Honest ones hold 68 % of the errors within one and 95 % within 1.96 of them, with a ratio of 1."
    heads = ("length", "method", "within 1", "within 1.96", "ratio", "mean, mm", "n")
    return note + "\n\n" + _table(heads, rows)


def robustness_table(content: Content) -> str:
    """Figures of the cases that were made harder."""
    rows = [
        (
            row["stress"],
            f"{row['level']:g}",
            *(_number(row["dice"][g], 3) for g in ("body", "disc", "canal")),
            _number(row["names"]["precision"], 3),
            _number(row["names"]["recall"], 3),
            _number(row["mse_mm2"]["reported"]["height_mean"], 2),
            _number(row["mse_mm2"]["reported"]["canal_ap"], 2),
            str(row["cases"]),
        )
        for row in content["robustness"]
    ]
    heads = (
        "made harder by",
        "to",
        "body",
        "disc",
        "canal",
        "names right",
        "levels named",
        "height MSE",
        "canal MSE",
        "n",
    )
    return _table(heads, rows)


def _robustness(content: Content, pictures: Mapping[str, Path]) -> Iterable[str]:
    if content["robustness"]:
        yield "## Robustness"
        yield (
            "The same cases with Gaussian noise (share of the 99th percentile), slices averaged to a "
            "thickness in mm (0: as it was), intensities to the power of gamma (-1: inverted), and the "
            "patient turned by degrees about the left-right axis and half as much about the others."
        )
        yield robustness_table(content)
        yield from _pictures(pictures, "robustness")


def _apart(content: Content) -> Iterable[str]:
    if content["apart"]:
        yield "## Fully random contrasts, in none of the above"
        yield summary_table({"summary": content["apart"]})


def _failures(content: Content) -> Iterable[str]:
    if content["failures"]:
        yield "## Refused by the server"
        yield "\n".join(f"- {name}: {reason}" for name, reason in content["failures"].items())


def _pictures(pictures: Mapping[str, Path], start: str) -> Iterable[str]:
    for name, path in pictures.items():
        if name.startswith(start):
            yield f"![{name.replace('_', ' ')}]({path.name})"


def as_html(text: str, folder: Path) -> str:
    """`text` (Markdown) as one HTML page with the pictures of `folder` inside it."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    body = re.sub(r'src="([\w.]+\.png)"', lambda m: f'src="{_embedded(folder / m[1])}"', body)
    title = html.escape(text.splitlines()[0].lstrip("# "))
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}</body></html>\n'


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def _limits(figures: Mapping[str, float | None]) -> str:
    low, high = figures["low_mm"], figures["high_mm"]
    return "–" if low is None or high is None else f"{low:+.2f} … {high:+.2f}"


def _part(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)" if whole else f"{part} of {whole}"
