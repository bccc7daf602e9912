"""`spine batch`: a folder of studies, several at a time; what is done stays done.

A folder with a study's name in the output means: finished (`batch_store` sees to it). Running the same
command again does only what is missing. A server that restarts meanwhile is waited for, study by study.
"""

from __future__ import annotations

import csv
import json
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from spine_client._report_parser import parse_report
from spine_client.cli import exit_codes
from spine_client.cli.batch_progress import BatchProgress
from spine_client.cli.batch_store import MARKER, BatchStore, unwritable
from spine_client.cli.commands import formats_to_write
from spine_client.cli.connection import open_client, options_of
from spine_client.config import RetryPolicy
from spine_client.errors import InputError, ProtocolError, RequestRejected, SpineClientError
from spine_client.outcome import Outcome
from spine_client.report import Report
from spine_client.rows import DISC_COLUMNS, disc_row
from spine_client.sources import is_study_file

SUMMARY = "summary.csv"
COLUMNS = ("study", "status", "error", *DISC_COLUMNS)
"""One row per disc; one row without a disc for a study that failed or holds none."""
PATIENCE = RetryPolicy(max_attempts=16)
"""A minute or so, if the server was there at the start: nobody sits by, and one that died comes back."""


def batch(arguments: Namespace, out: TextIO, err: TextIO) -> int:
    """Analyse every study of a folder that the output does not hold yet; then write the summary."""
    studies = [study for study in find_studies(arguments.path) if study.resolve() != arguments.out.resolve()]
    formats = formats_to_write(arguments.formats, err)
    store = BatchStore(arguments.out)
    errors: dict[str, SpineClientError] = {}
    with store.held():
        try:
            _analyse(studies, store, errors, formats, arguments, err)
        finally:
            finished = write_summary(store, [study.name for study in studies], errors)
    _print_end(arguments, finished, errors, out)
    return exit_codes.SOME_FAILED if errors else exit_codes.DONE


def _analyse(
    studies: Sequence[Path],
    store: BatchStore,
    errors: dict[str, SpineClientError],
    formats: Sequence[str],
    arguments: Namespace,
    err: TextIO,
) -> None:
    """Analyse what is missing in `store`; failures go into `errors`, by study."""
    pending = [study for study in studies if not store.is_done(study.name)]
    with open_client(arguments) as client, BatchProgress(err, len(studies), arguments.json) as progress:
        progress.skipped(len(studies) - len(pending))
        patient = client.with_options(retry=PATIENCE) if client.health().ok else client
        outcomes = patient.analyze_many(
            pending, max_concurrency=arguments.concurrency, options=options_of(arguments)
        )
        for outcome in outcomes:
            name = pending[outcome.index].name
            error = _keep(outcome, name, store, formats)
            if error is not None:
                errors[name] = error
            progress.done(name, error)


def find_studies(folder: Path) -> list[Path]:
    """The studies of a folder: each subfolder, zip archive and volume file, save hidden ones.

    Raises `InputError` if there is none.
    """
    if not folder.is_dir():
        raise InputError("no_such_path", "there is no such folder", files=[folder])
    visible = (item for item in folder.iterdir() if not item.name.startswith("."))
    studies = sorted(item for item in visible if item.is_dir() or is_study_file(item))
    if not studies:
        raise InputError(
            "no_studies",
            "the folder holds no subfolder, archive or volume; for one series use `spine analyze`",
        )
    return studies


def write_summary(store: BatchStore, names: Iterable[str], errors: dict[str, SpineClientError]) -> int:
    """Write `SUMMARY` over all studies finished so far; their number."""
    rows: list[dict[str, object]] = []
    finished = 0
    for name in names:
        report = _read_report(store.directory / name / MARKER)
        if report is not None:
            finished += 1
            rows += _rows(name, report)
        elif name in errors:
            rows.append({"study": name, "status": "failed", "error": _error_code(errors[name])})
    try:
        store.put(SUMMARY, lambda path: _write_rows(path, rows))
    except OSError as error:
        raise unwritable(store.directory, error) from None
    return finished


def _write_rows(path: Path, rows: Iterable[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _keep(outcome: Outcome, name: str, store: BatchStore, formats: Sequence[str]) -> SpineClientError | None:
    """Write the result, all of it or nothing; the error that kept it from being there."""
    result = outcome.result
    if result is None:
        return outcome.error
    try:
        store.put(name, lambda path: result.save(path, formats=list(dict.fromkeys(["json", *formats]))))
    except OSError as error:
        return unwritable(store.directory, error)
    return None


def _read_report(path: Path) -> Report | None:
    try:
        return parse_report(path.read_bytes())
    except (OSError, ProtocolError):
        return None


def _rows(name: str, report: Report) -> list[dict[str, object]]:
    if not report.discs:
        return [{"study": name, "status": "no disc found"}]
    return [{"study": name, "status": "ok", **disc_row(disc)} for disc in report.discs]


def _error_code(error: SpineClientError) -> str:
    coded = isinstance(error, (InputError, RequestRejected))
    return f"{type(error).__name__}:{error.code}" if coded else type(error).__name__  # type: ignore[attr-defined]


def _print_end(arguments: Namespace, finished: int, errors: dict[str, SpineClientError], out: TextIO) -> None:
    if arguments.json:
        failed = [{"study": name, "error": _error_code(error), "message": error.message}
                  for name, error in errors.items()]  # fmt: skip
        out.write(json.dumps({"finished": finished, "failed": failed}, indent=2) + "\n")
        return
    out.write(f"{finished} studies finished, {len(errors)} failed; summary in {arguments.out / SUMMARY}\n")
