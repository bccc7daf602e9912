"""What each command of `spine` does. Streams are handed in, results go to them, errors are raised."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from spine_client.cli import exit_codes
from spine_client.cli.connection import open_client, options_of
from spine_client.cli.pacs import source_of, store, store_in
from spine_client.cli.tables import discs_table, print_table, stacks_table, supervisor_line
from spine_client.cli.waiting import WaitingLine
from spine_client.dicom import SELECTION_RULE, Stack, inspect_dicom
from spine_client.dicom.choose import choose_stack
from spine_client.errors import InputError
from spine_client.result import SpineResult
from spine_client.saving import DEFAULT_FORMATS, FORMATS, missing_extra
from spine_client.segmentation import SegmentationResult
from spine_client.sources import dicom_source


def analyze(arguments: Namespace, out: TextIO, err: TextIO) -> int:
    """Analyse one series, print the table or JSON, write the files."""
    formats = formats_to_write(arguments.formats, err) if arguments.out else ()
    source, pacs = source_of(arguments), store_in(arguments)
    with open_client(arguments) as client, WaitingLine(err, silent=arguments.json) as line:
        result = client.analyze(
            source, series=arguments.series, options=options_of(arguments), on_progress=line
        )
    if arguments.json:
        out.write(result.to_json() + "\n")
    else:
        print_table(discs_table(result), out)
    if arguments.out:
        save_to(result, arguments.out, formats, err)
    if pacs is not None:
        store(result, pacs, err)
    return exit_codes.DONE


def inspect(arguments: Namespace, out: TextIO, err: TextIO) -> int:
    """List the stacks of a DICOM folder and mark the one that would be analysed."""
    stacks, notices = inspect_dicom(dicom_source(source_of(arguments)))
    chosen, reason = _chosen(stacks)
    if arguments.json:
        listing = {"stacks": [_stack_dict(stack) for stack in stacks], "chosen": chosen, "problem": reason}
        out.write(json.dumps(listing | {"warnings": [item.to_dict() for item in notices]}, indent=2) + "\n")
        return exit_codes.DONE
    print_table(stacks_table(stacks, chosen=chosen, descriptions=arguments.descriptions), out)
    out.write(f"{'→ is what `spine analyze` takes. ' + SELECTION_RULE if chosen else reason}\n")
    for item in notices:
        out.write(f"warning: {item.message}\n")
        for path in item.files if arguments.descriptions else ():
            out.write(f"  {path}\n")
    return exit_codes.DONE


def health(arguments: Namespace, out: TextIO, err: TextIO) -> int:
    """Ask the server for its state."""
    with open_client(arguments) as client:
        state = client.health(deep=arguments.deep, timeout_s=arguments.timeout)
    if arguments.json:
        out.write(json.dumps(state.to_dict(), indent=2) + "\n")
    else:
        version = f" (Triton {state.server_version})" if state.server_version else ""
        canary = f", a small volume took {state.canary_s:.1f} s" if state.canary_s is not None else ""
        out.write(f"ready{version}{canary}\n" if state.ok else f"not ready{version}: {state.problem}\n")
        if state.supervisor is not None:
            out.write(supervisor_line(state.supervisor))
    return exit_codes.DONE if state.ok else exit_codes.UNAVAILABLE


def formats_to_write(asked: Sequence[str] | None, err: TextIO) -> Sequence[str]:
    """Formats to write. What was asked for must be possible; by default, what is possible is written."""
    chosen = []
    for name in asked or DEFAULT_FORMATS:
        error = missing_extra(name)
        if error and asked:
            raise error
        if error:
            err.write(f"not written: {FORMATS[name][0]}. {error}\n")
        else:
            chosen.append(name)
    return chosen


def save_to(
    result: SpineResult | SegmentationResult, directory: Path, formats: Sequence[str], err: TextIO
) -> None:
    """Write `formats` into `directory` and say so."""
    try:
        written = result.save(directory, formats=formats)
    except OSError as error:
        raise InputError(
            "output", f"the results cannot be written: {error.strerror}", files=[directory]
        ) from None
    for path in written.values():
        err.write(f"wrote {path}\n")


def _chosen(stacks: Sequence[Stack]) -> tuple[str | None, str]:
    try:
        stack, _ = choose_stack(stacks, None)
    except InputError as error:
        return None, error.message
    return stack.stack_id, ""


def _stack_dict(stack: Stack) -> dict[str, Any]:
    first = stack.frames[0]
    return {
        "id": stack.stack_id,
        "plane": stack.plane,
        "localizer": stack.is_localizer,
        "slices": len(stack.frames),
        "rows": first.rows,
        "columns": first.columns,
        "pixel_spacing_mm": list(first.spacing),
        "echo_time_ms": stack.echo_time_ms,
    }
