"""DICOM in: from a folder, files or datasets to one volume with LPS geometry.

The way through: `files` finds the paths, `scan` reads the few header elements of `frame` and `multiframe`
(never a patient's), `stacks` groups the frames into regular stacks, `choose` picks one, `geometry` sorts and
checks it, `pixels` decodes it.
"""

from __future__ import annotations

from spine_client.dicom.choose import SELECTION_RULE, choose_stack
from spine_client.dicom.files import DicomSource
from spine_client.dicom.geometry import sort_and_place
from spine_client.dicom.pixels import read_pixels
from spine_client.dicom.quiet import quiet_pydicom
from spine_client.dicom.scan import scan
from spine_client.dicom.stacks import Stack, group_into_stacks
from spine_client.notices import Notice
from spine_client.volume import Volume

__all__ = ["SELECTION_RULE", "DicomSource", "Stack", "inspect_dicom", "read_dicom"]


def read_dicom(source: DicomSource, *, series: str | None = None) -> Volume:
    """Read one MR series as a volume: voxels (Z, Y, X), slices sorted along their normal, affine to LPS mm.

    `series` is a stack id as `inspect_dicom` lists it (a SeriesInstanceUID, with ``#2`` behind it where the
    series holds several stacks); without it `SELECTION_RULE` decides. Raises `InputError` for a source that
    has no series from which a volume can be built without guessing.
    """
    with quiet_pydicom():
        found = scan(source)
        stack, notices = choose_stack(group_into_stacks(found.frames), series)
        ordered = sort_and_place(stack.frames)
        voxels, pixel_notices = read_pixels(ordered.frames)
    all_notices = (*found.notices, *notices, *ordered.notices, *pixel_notices)
    return Volume(voxels, ordered.affine, all_notices, ordered.frames)


def inspect_dicom(source: DicomSource) -> tuple[list[Stack], tuple[Notice, ...]]:
    """All image stacks of the source, localizers included, and what was skipped."""
    with quiet_pydicom():
        found = scan(source)
        return group_into_stacks(found.frames), found.notices
