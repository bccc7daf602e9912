"""`spine segment`: a network's own labels, without levels and measurements."""

from __future__ import annotations

from argparse import Namespace
from typing import TextIO

from spine_client.cli import exit_codes
from spine_client.cli.commands import save_to
from spine_client.cli.connection import open_client, options_of
from spine_client.cli.pacs import source_of
from spine_client.cli.tables import Table, print_table
from spine_client.cli.waiting import WaitingLine
from spine_client.saving import SEGMENTATION_FORMATS, missing_extra
from spine_client.segmentation import SegmentationResult


def segment(arguments: Namespace, out: TextIO, err: TextIO) -> int:
    """Segment one volume, print its labels or JSON, write the files."""
    if arguments.out and (error := missing_extra("nifti")):
        raise error
    with open_client(arguments) as client, WaitingLine(err, silent=arguments.json) as line:
        result = client.segment(
            source_of(arguments),
            model=arguments.model,
            series=arguments.series,
            options=options_of(arguments),
            on_progress=line,
        )
    if arguments.json:
        out.write(result.to_json() + "\n")
    else:
        print_table(_labels_table(result), out)
    if arguments.out:
        save_to(result, arguments.out, tuple(SEGMENTATION_FORMATS), err)
    return exit_codes.DONE


def _labels_table(result: SegmentationResult) -> Table:
    return Table(
        title=f"Labels of {result.model}",
        headings=("Label", "cm³"),
        rows=tuple((str(n), f"{volume / 1000:.2f}") for n, volume in result.volumes_mm3.items()),
        notes=(
            *(f"warning: {warning.message}" for warning in result.warnings),
            "Research software, not a medical device.",
        ),
    )
