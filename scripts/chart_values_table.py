"""Writes the table of values into the chart's README from the comments in values.yaml.

``python scripts/chart_values_table.py`` rewrites it, ``--check`` only says whether it is current. A value is
documented by a line ``# -- …`` right above it; a value without one is an error.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[1] / "helm" / "spineserve"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"
_KEY = re.compile(r"^( *)([A-Za-z][A-Za-z0-9]*):(.*)$")


class UndocumentedValueError(ValueError):
    """A value has no comment."""


def documented(text: str) -> Iterator[tuple[str, str]]:
    """Dotted name and comment of every value that has one, in the order of the file."""
    path: list[str] = []
    comment: str | None = None
    for line in text.splitlines():
        if line.strip().startswith("# --"):
            comment = line.strip().removeprefix("# --").strip()
            continue
        if (found := _KEY.match(line)) is None:
            continue
        path = [*path[: len(found[1]) // 2], found[2]]
        if comment is not None:
            yield ".".join(path), comment
        comment = None


def leaves(values: Any, known: set[str], name: str = "") -> Iterator[str]:
    """Dotted names of all values; one that has a comment of its own is not looked into."""
    if name in known or not isinstance(values, dict):
        yield name
        return
    for key, value in values.items():
        yield from leaves(value, known, f"{name}.{key}" if name else key)


def value_at(values: Any, name: str) -> Any:
    """The value under a dotted name."""
    for key in name.split("."):
        values = values[key]
    return values


def table() -> str:
    """The table in Markdown.

    Raises
    ------
    UndocumentedValueError
        Names every value without a comment.
    """
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    values, comments = yaml.safe_load(text), dict(documented(text))
    if missing := [name for name in leaves(values, set(comments)) if name not in comments]:
        raise UndocumentedValueError(f"no comment in values.yaml for: {', '.join(missing)}")
    rows = [
        f"| `{name}` | `{json.dumps(value_at(values, name))}` | {comment} |"
        for name, comment in comments.items()
    ]
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *rows])


def with_table(readme: str) -> str:
    """`readme` with the table between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    """Rewrite or check. 1 when the check finds the table out of date."""
    path = CHART / "README.md"
    readme = path.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        if with_table(readme) != readme:
            print(
                "helm/spineserve/README.md is not current: run scripts/chart_values_table.py", file=sys.stderr
            )
            return 1
        return 0
    path.write_text(with_table(readme), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
