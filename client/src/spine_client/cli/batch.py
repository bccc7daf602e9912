"""`spine batch`: a folder of studies, several at a time; what is done stays done.

Each study's files are written aside and moved into place when all are there, so that a folder with the
study's name in the output means: finished. Running the same command again does only what is missing.
"""

from __future__ import annotations

import csv
import json
import shutil
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from spine_client._report_parser import parse_report
from spine_client.cli import exit_codes
from spine_client.cli.batch_progress import BatchProgress
from spine_client.cli.commands import formats_to_write, open_client
from spine_client.errors import InputError, ProtocolError, RequestRejected, SpineClientError
from spine_client.nifti import is_nifti
from spine_client.outcome import Outcome
from spine_client.report import Disc, DiscHeight, Report

SUMMARY = "summary.csv"
COLUMNS = (
    "study", "status", "error", "disc", "height_anterior_mm", "height_middle_mm", "height_posterior_mm",
    "height_mean_mm", "height_mean_cnn_mm", "canal_ap_mm", "canal_ap_cnn_mm", "complete", "flags",
)  # fmt: skip
"""One row per disc; one row without a disc for a study that failed or holds none."""
_PARTIAL = ".partial-"


def batch(arguments: Namespace, out: TextIO, err: TextIO) -> int:
    """Analyse every study of a folder that the output does not hold yet; then write the summary."""
    studies = [study for study in find_studies(arguments.path) if study.resolve() != arguments.out.resolve()]
    formats = formats_to_write(arguments.formats, err)
    pending = [study for study in studies if not _is_done(arguments.out / study.name)]
    errors: dict[str, SpineClientError] = {}
    try:
        with open_client(arguments) as client, BatchProgress(err, len(studies), arguments.json) as progress:
            progress.skipped(len(studies) - len(pending))
            outcomes = client.analyze_many(
                pending, max_concurrency=arguments.concurrency, region=arguments.region
            )
            for outcome in outcomes:
                error = _keep(outcome, pending[outcome.index].name, arguments.out, formats)
                if error is not None:
                    errors[pending[outcome.index].name] = error
                progress.done(pending[outcome.index].name, error)
    finally:
        finished = write_summary(arguments.out, [study.name for study in studies], errors)
    _print_end(arguments, finished, errors, out)
    return exit_codes.SOME_FAILED if errors else exit_codes.DONE


def find_studies(folder: Path) -> list[Path]:
    """The studies of a folder: each subfolder, each NIfTI file, save hidden ones.

    Raises `InputError` if there is none.
    """
    if not folder.is_dir():
        raise InputError("no_such_path", "there is no such folder", files=[folder])
    visible = (item for item in folder.iterdir() if not item.name.startswith("."))
    studies = sorted(item for item in visible if item.is_dir() or is_nifti(item))
    if not studies:
        raise InputError(
            "no_studies",
            "the folder holds neither subfolders nor NIfTI files; for one series use `spine analyze`",
        )
    return studies


def write_summary(directory: Path, names: Iterable[str], errors: dict[str, SpineClientError]) -> int:
    """Write `SUMMARY` over all studies finished so far; their number."""
    directory.mkdir(parents=True, exist_ok=True)
    finished = 0
    with (directory / SUMMARY).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        for name in names:
            report = _read_report(directory / name / "report.json")
            if report is not None:
                finished += 1
                writer.writerows(_rows(name, report))
            elif name in errors:
                writer.writerow({"study": name, "status": "failed", "error": _error_code(errors[name])})
    return finished


def _is_done(directory: Path) -> bool:
    return (directory / "report.json").is_file()


def _keep(outcome: Outcome, name: str, directory: Path, formats: Sequence[str]) -> SpineClientError | None:
    """Write the result, all of it or nothing; the error that kept it from being there."""
    if outcome.result is None:
        return outcome.error
    partial = directory / f"{_PARTIAL}{name}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        outcome.result.save(partial, formats=list(dict.fromkeys(["json", *formats])))
        shutil.rmtree(directory / name, ignore_errors=True)
        partial.replace(directory / name)
    except OSError as error:
        return InputError("output", f"the results cannot be written: {error.strerror}", files=[directory])
    return None


def _read_report(path: Path) -> Report | None:
    try:
        return parse_report(path.read_bytes())
    except (OSError, ProtocolError):
        return None


def _rows(name: str, report: Report) -> list[dict[str, object]]:
    if not report.discs:
        return [{"study": name, "status": "no disc found"}]
    return [{"study": name, "status": "ok", **_disc_columns(disc)} for disc in report.discs]


def _disc_columns(disc: Disc) -> dict[str, object]:
    nothing = DiscHeight(None, None, None, None)
    height, cnn = disc.height_mm.geometric or nothing, disc.height_mm.cnn or nothing
    return {
        "disc": disc.title,
        "height_anterior_mm": height.anterior,
        "height_middle_mm": height.middle,
        "height_posterior_mm": height.posterior,
        "height_mean_mm": height.mean,
        "height_mean_cnn_mm": cnn.mean,
        "canal_ap_mm": disc.canal_ap_mm.geometric,
        "canal_ap_cnn_mm": disc.canal_ap_mm.cnn,
        "complete": disc.complete,
        "flags": " ".join(disc.flags),
    }


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
