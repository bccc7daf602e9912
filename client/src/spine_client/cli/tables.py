"""Tables for the terminal: with rich where it is installed, plain text elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from spine_client.dicom.stacks import Stack
from spine_client.report import Disc
from spine_client.result import SpineResult
from spine_client.rows import SHOWN_COLUMNS, disc_row


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; the first column is left-aligned, numbers are right-aligned."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[int] = field(default=frozenset({0}))
    notes: tuple[str, ...] = ()


def discs_table(result: SpineResult) -> Table:
    """Disc height and canal diameter of every level."""
    headings = ("Disc", "ant.", "mid.", "post.", "mean", "mean CNN", "canal AP", "CNN", "Flags")
    return Table(
        title="Disc height and canal AP diameter, mm",
        headings=headings,
        rows=tuple(_disc_row(disc) for disc in result.discs),
        left=frozenset({0, len(headings) - 1}),
        notes=_notes(result),
    )


def stacks_table(stacks: Sequence[Stack], *, chosen: str | None, descriptions: bool) -> Table:
    """What a folder holds; an arrow marks what `analyze` takes by itself."""
    rows: list[tuple[str, ...]] = []
    for stack in stacks:
        first = stack.frames[0]
        row: tuple[str, ...] = (
            "→" if stack.stack_id == chosen else "",
            stack.plane + (" localizer" if stack.is_localizer else ""),
            str(len(stack.frames)),
            f"{first.rows}×{first.columns}",
            f"{first.spacing[0]:.2f}×{first.spacing[1]:.2f}",
            "–" if stack.echo_time_ms is None else f"{stack.echo_time_ms:.1f}",
            stack.stack_id,
        )
        rows.append((*row, first.description) if descriptions else row)
    headings: tuple[str, ...] = ("", "Plane", "Slices", "Pixels", "mm", "TE ms", "Id")
    headings = (*headings, "Description") if descriptions else headings
    return Table("Image stacks", headings, tuple(rows), left=frozenset({0, 1, 6, 7}))


def print_table(table: Table, stream: TextIO) -> None:
    """Print it; rich is used on a terminal only, so that piped text stays plain."""
    if stream.isatty():
        try:
            _print_rich(table, stream)
            return
        except ImportError:
            pass
    _print_plain(table, stream)


def _disc_row(disc: Disc) -> tuple[str, ...]:
    row = disc_row(disc)
    values = (row[column] for column in SHOWN_COLUMNS)
    numbers = ("–" if value is None else f"{value:.1f}" for value in values)
    flags = [*disc.flags, *(() if disc.complete else ("cut",))]
    return (disc.title, *numbers, ", ".join(flags))


def _notes(result: SpineResult) -> tuple[str, ...]:
    naming = result.naming
    how = naming.sentence if naming.named else f"{naming.sentence}: {naming.reason}"
    if not result.vertebrae:
        how = "no vertebra was found"
    warnings = [f"warning: {warning.message}" for warning in result.warnings]
    return (how, *warnings, result.provenance.disclaimer)


def _print_plain(table: Table, stream: TextIO) -> None:
    cells = [table.headings, *table.rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.headings))]
    stream.write(f"{table.title}\n")
    for row in cells:
        padded = (
            cell.ljust(width) if i in table.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        stream.write("  ".join(padded).rstrip() + "\n")
    for note in table.notes:
        stream.write(f"{note}\n")


def _print_rich(table: Table, stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
    for i, heading in enumerate(table.headings):
        shown.add_column(heading, justify="left" if i in table.left else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    console = Console(file=stream)
    console.print(shown)
    for note in table.notes:
        console.print(Text(note, style="yellow" if note.startswith("warning") else "dim"))


def supervisor_line(state: Mapping[str, Any]) -> str:
    """What the server's supervisor has had to do, in one line."""
    reloads = ", ".join(f"{model} {count}×" for model, count in dict(state.get("reloads") or {}).items())
    did = f"{state.get('restarts', 0)} restarts, stages loaded anew: {reloads or 'none'}"
    last = f"; last: {state['last_event']}" if state.get("last_event") else ""
    return f"supervisor: {state.get('status')}; {did}{last}\n"
