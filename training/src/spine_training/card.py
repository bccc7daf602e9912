"""`spine-train card`: the figures and pictures of MODEL_CARD.md, from an evaluation's JSON.

The card is prose with a few blocks between marks; this rewrites the blocks and leaves the prose. Pictures are
of held-out phantoms only: a typical one, and those that went worst.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spine_training.evaluation.cases import FIRST_RANDOM_SEED, FIRST_SEED, RANDOM, Case, phantom_case
from spine_training.evaluation.document import (
    calibration_table,
    dice_table,
    error_table,
    naming_table,
    robustness_table,
    summary_table,
)
from spine_training.evaluation.plots import draw_all
from spine_training.evaluation.run import FORMAT, analyzed
from spine_training.pairs.errors import PairError

if TYPE_CHECKING:
    from spine_client import SpineClient

Content = Mapping[str, Any]
BLOCK = re.compile(r"<!-- begin:(\w+) -->\n.*?<!-- end:\1 -->", re.DOTALL)
COLOURS = 64  # of a picture's palette, which keeps it small


@dataclass(frozen=True)
class Shown:
    """A held-out phantom to be pictured: why, and which."""

    title: str
    case: Mapping[str, Any]


def refresh(
    card: Path, results: Path, *, images: Path, client: SpineClient | None, real: Path | None
) -> None:
    """Rewrite the blocks of `card` from `results` (and `real`), and its pictures in `images`.

    Without a `client` the pictures of cases stay as they are, and only what the JSON gives is drawn.
    """
    content = _loaded(results)
    plots = draw_all(content, images)
    cases = telling_cases(content["cases"])
    if client is not None:
        for number, shown in enumerate(cases):
            draw_case(client, shown, images / f"case_{number}.png")
    there = images.relative_to(card.parent) if images.is_relative_to(card.parent) else images
    blocks = _blocks(content) | {
        "about": _about(content, results),
        "plots": "\n\n".join(f"![{n.replace('_', ' ')}]({there / path.name})" for n, path in plots.items()),
        "failures": _pictures(cases, there),
        "real": summary_table(_loaded(real)) if real is not None else None,
    }
    card.write_text(with_blocks(card.read_text(encoding="utf-8"), blocks), encoding="utf-8")


def _blocks(content: Content) -> dict[str, str | None]:
    """The blocks that are tables."""
    return {
        "summary": summary_table(content) + _targets(content),
        "apart": summary_table({"summary": content["apart"]}) if content["apart"] else "None were scored.",
        "groups": _groups(content),
        "tables": _tables(content),
        "calibration": calibration_table(content),
        "robustness": robustness_table(content) if content["robustness"] else "Not run.",
    }


def with_blocks(text: str, blocks: Mapping[str, str | None]) -> str:
    """`text` with each block between its marks exchanged; None leaves a block as it is."""

    def exchanged(match: re.Match[str]) -> str:
        new = blocks.get(match[1])
        return match[0] if new is None else f"<!-- begin:{match[1]} -->\n{new}\n<!-- end:{match[1]} -->"

    return BLOCK.sub(exchanged, text)


def telling_cases(cases: Sequence[Content]) -> list[Shown]:
    """A typical case, the least overlap, the largest canal error, the most levels missed; each once."""
    usual = [case for case in cases if RANDOM not in case["groups"]]
    order = sorted(usual, key=_overlap)
    chosen = [
        Shown("A typical one, by its overlap", order[len(order) // 2]),
        Shown("The least overlap", order[0]),
        Shown("The largest error of a canal's AP diameter", max(usual, key=_worst_canal)),
        Shown("The most levels not found under their names", max(usual, key=_missed)),
    ]
    hard = [case for case in cases if RANDOM in case["groups"]]
    if hard:
        chosen.append(Shown("The least overlap among fully random contrasts", min(hard, key=_overlap)))
    once = {shown.case["case"]: shown for shown in reversed(chosen)}
    return [shown for shown in chosen if once[shown.case["case"]] is shown]


def _overlap(case: Content) -> float:
    return float(
        np.mean([value or 0.0 for g in ("body", "disc", "canal") if (value := case["dice"][g]) is not None])
    )


def _worst_canal(case: Content) -> float:
    pairs = [
        (x["found_mm"].get("reported", {}).get("canal_ap"), x["true_mm"].get("canal_ap"))
        for x in case["levels"]
    ]
    return max((abs(found - true) for found, true in pairs if None not in (found, true)), default=0.0)


def _missed(case: Content) -> int:
    return int(case["names"]["expected"] - case["names"]["recalled"])


def draw_case(client: SpineClient, shown: Shown, path: Path) -> Path:
    """Ask the server about the phantom again and draw the client's overlay with few colours."""
    from PIL import Image

    from spine_client.overlay import draw_overlay

    result = analyzed(client, case_again(shown.case))
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_overlay(result, path)
    with Image.open(path) as picture:
        small = picture.convert("RGB").resize(
            (picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS
        )
    small.quantize(COLOURS).save(path, optimize=True)
    return path


def case_again(case: Content) -> Case:
    """The held-out phantom that a score is of."""
    seed = int(case["case"].split()[0])
    if seed >= FIRST_RANDOM_SEED:
        return phantom_case(seed - FIRST_RANDOM_SEED, contrast="random")
    return phantom_case(seed - FIRST_SEED)


def _loaded(path: Path) -> Content:
    """An evaluation's JSON; PairError where it is of another format."""
    content: Content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise PairError(
            f"{path.name} was written in format {content.get('format')}, not {FORMAT}; evaluate again."
        )
    return content


def _about(content: Content, results: Path) -> str:
    lines = [f"Figures of `{results.name}`: {content['note']}."]
    for role, model in content["models"].items():
        lines.append(
            f"{role.capitalize()}: {model['name']} {model['version']}, SHA-256 `{model['sha256'][:16]}…`."
        )
    for key in ("machine", "date"):
        if content.get(key):
            lines.append(f"{key.capitalize()}: {content[key]}.")
    return "\n".join(f"- {line}" for line in lines)


def _targets(content: Content) -> str:
    if "missed" not in content:
        return ""
    if not content["missed"]:
        return "\n\nEvery target of `make accuracy` is met."
    return "\n\nTargets missed: " + "; ".join(content["missed"]) + "."


def _groups(content: Content) -> str:
    heads = "| | volumes | body | disc | canal | height MSE | canal AP MSE | names right | levels named |"
    lines = [heads, "|" + " --- |" * 9]
    for group, figures in content["by_group"].items():
        mse = figures["mse_mm2"]["reported"]
        names = figures["names"]
        values = [figures["dice"][g] for g in ("body", "disc", "canal")]
        values += [mse["height_mean"], mse["canal_ap"], names["precision"], names["recall"]]
        shown = " | ".join("–" if value is None else f"{value:.3f}" for value in values)
        lines.append(f"| {group} | {figures['cases']} | {shown} |")
    return "\n".join(lines)


def _tables(content: Content) -> str:
    parts = (
        ("Table 4, Dice", dice_table),
        ("Table 5, mean squared error in mm²", error_table),
        ("Table 6, finding and naming, percent", naming_table),
    )
    return "\n\n".join(f"**{title}**\n\n{draw(content)}" for title, draw in parts)


def _pictures(cases: Sequence[Shown], folder: Path) -> str:
    parts = []
    for number, shown in enumerate(cases):
        case, names = shown.case, shown.case["names"]
        dice = ", ".join(f"{g} {v:.2f}" for g, v in case["dice"].items() if v is not None)
        parts.append(
            f"**{shown.title}**: {case['case']}. Dice {dice}; {names['recalled']} of {names['expected']} "
            f"levels named, {names['named'] - names['right']} wrongly; largest canal error "
            f"{_worst_canal(case):.1f} mm. "
            f"{case['details']['reason']}\n\n![{shown.title}]({folder / f'case_{number}.png'})"
        )
    return "\n\n".join(parts)
