"""Writes results to files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spine_client.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from spine_client.result import SpineResult
    from spine_client.segmentation import SegmentationResult

Writer = Callable[[Any, Path], None]


def _write_json(result: SpineResult | SegmentationResult, path: Path) -> None:
    path.write_text(result.to_json() + "\n", encoding="utf-8")


def _write_labels(result: SpineResult | SegmentationResult, path: Path) -> None:
    from spine_client.nifti import write_nifti

    write_nifti(path, result.labels, result.affine)


def _write_overlay(result: SpineResult, path: Path) -> None:
    from spine_client.overlay import draw_overlay

    draw_overlay(result, path)


def _write_page(result: SpineResult, path: Path) -> None:
    from spine_client.page import write_page

    write_page(result, path)


def _write_segmentation(result: SpineResult, path: Path) -> None:
    from spine_client.dicom_out import write_segmentation

    write_segmentation(result, path)


def _write_measurements(result: SpineResult, path: Path) -> None:
    from spine_client.dicom_out import write_measurements

    write_measurements(result, path)


FORMATS: dict[str, tuple[str, Writer]] = {
    "json": ("report.json", _write_json),
    "nifti": ("labels.nii.gz", _write_labels),
    "overlay": ("overlay.png", _write_overlay),
    "html": ("report.html", _write_page),
    "seg": ("segmentation.dcm", _write_segmentation),
    "sr": ("measurements.dcm", _write_measurements),
}
"""File name and writer of each format."""
SEGMENTATION_FORMATS: dict[str, tuple[str, Writer]] = {
    "json": ("segmentation.json", _write_json),
    "nifti": FORMATS["nifti"],
}
"""The same for a plain segmentation."""
DEFAULT_FORMATS = ("json", "nifti", "overlay", "html")
"""Written unless others are asked for. DICOM carries the patient of the source, so it is never in here."""
_NEEDS = {
    "nifti": ("nifti", "nibabel", "Writing NIfTI"),
    "overlay": ("report", "matplotlib", "Drawing overlays"),
    "html": ("report", "PIL", "Writing report.html"),
    "seg": ("dicom", "highdicom", "Writing DICOM"),
    "sr": ("dicom", "highdicom", "Writing DICOM"),
}
"""Extra and package behind a format, and what they are for."""


def missing_extra(name: str) -> MissingExtra | None:
    """The error to raise for a format whose packages are not installed, None if all are there."""
    if name not in _NEEDS:
        return None
    extra, package, feature = _NEEDS[name]
    return None if find_spec(package) else MissingExtra(extra, feature)


def save(result: SpineResult, directory: Path, formats: Sequence[str] | None) -> dict[str, Path]:
    """Write `formats` (`DEFAULT_FORMATS` if None) into `directory`; the path of each.

    ``sr`` brings ``seg`` along: the report references the segmentation.
    """
    chosen = list(DEFAULT_FORMATS if formats is None else formats)
    if "sr" in chosen and "seg" not in chosen:
        chosen.insert(chosen.index("sr"), "seg")
    return write_formats(result, directory, chosen, FORMATS)


def write_formats(
    result: SpineResult | SegmentationResult,
    directory: Path,
    chosen: Sequence[str],
    formats: Mapping[str, tuple[str, Writer]],
) -> dict[str, Path]:
    """Write `chosen` of `formats` into `directory`; nothing is written unless all can be."""
    unknown = [name for name in chosen if name not in formats]
    if unknown:
        raise InputError("format", f"unknown formats {', '.join(unknown)}; there are {', '.join(formats)}")
    for name in chosen:
        if error := missing_extra(name):
            raise error
    directory.mkdir(parents=True, exist_ok=True)
    written = {}
    for name in chosen:
        file_name, write = formats[name]
        write(result, directory / file_name)
        written[name] = directory / file_name
    return written
