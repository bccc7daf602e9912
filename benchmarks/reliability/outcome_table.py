"""Results as they are shown and kept: a table on the terminal, the same in Markdown and JSON on disk."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def machine() -> str:
    """What this ran on, by kind: cores, processor, memory."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return f"{cores} cores ({model}), {memory_gib:.0f} GiB; load average at the end {load:.1f}"


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table with the keys of the first row as its head."""
    if not rows:
        return ""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *[[_cell(row.get(key)) for key in head] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def keep(
    folder: Path,
    name: str,
    *,
    title: str,
    command: str,
    rows: Sequence[Row],
    notes: Sequence[str],
    part_of: str | None = None,
) -> None:
    """Print the table and write ``<name>.md`` and ``<name>.json`` into `folder`.

    With `part_of`, the name of a column, rows and notes that are there from earlier runs stay, save those
    about what that column names in `rows`.
    """
    if part_of is not None:
        rows, notes = _added(folder / f"{name}.json", rows, notes, part_of)
    today = datetime.date.today().isoformat()
    where = machine()
    text = f"# {title}\n\n`{command}`, {today}, {where}.\n\n{markdown(rows)}\n"
    if notes:
        text += "\n" + "\n".join(f"- {note}" for note in notes) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text, "utf-8")
    content = {
        "title": title,
        "command": command,
        "date": today,
        "machine": where,
        "rows": rows,
        "notes": notes,
    }
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"\n{text}\nwritten to {folder / name}.md and .json", flush=True)


def _added(
    earlier: Path, rows: Sequence[Row], notes: Sequence[str], column: str
) -> tuple[Sequence[Row], Sequence[str]]:
    if not earlier.is_file():
        return rows, notes
    content = json.loads(earlier.read_text("utf-8"))
    again = {row[column] for row in rows}
    kept = [row for row in content["rows"] if row[column] not in again]
    said = [n for n in content["notes"] if n not in notes and not any(f"{what}:" in n for what in again)]
    return [*kept, *rows], [*notes, *said]


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value).replace("|", "\\|")
