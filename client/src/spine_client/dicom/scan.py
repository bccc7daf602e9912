"""Reads the headers of a source; what is no MR image, or damaged, is skipped and reported."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MediaStorageDirectoryStorage

from spine_client.dicom.files import DicomSource, Origin, find_origins, paths_of
from spine_client.dicom.frame import HEADER_TAGS, Frame, classic_frame
from spine_client.dicom.multiframe import enhanced_frames, is_enhanced
from spine_client.errors import InputError
from spine_client.notices import Notice, notice

_SKIPPED = {
    "not_dicom": "{} of the files are not DICOM and were skipped",
    "missing_file": "{} files that the DICOMDIR lists are not there",
    "damaged_file": "{} DICOM files are truncated or damaged and were skipped",
    "not_an_image": "{} DICOM objects that are not greyscale images were skipped",
    "not_mr": "{} images of another modality than MR were skipped",
    "no_geometry": "{} MR images without position, orientation or pixel spacing were skipped",
}


@dataclass
class Scan:
    """What a source holds: MR frames, and notices about the rest."""

    frames: list[Frame] = field(default_factory=list)
    skipped: dict[str, list[Origin]] = field(default_factory=lambda: defaultdict(list))

    @property
    def notices(self) -> tuple[Notice, ...]:
        """One notice for each reason to skip, with the paths concerned."""
        return tuple(
            notice(code, _SKIPPED[code].format(len(origins)), paths_of(origins))
            for code, origins in self.skipped.items()
        )


def scan(source: DicomSource) -> Scan:
    """Read all headers. Raises `InputError` where no MR image is among the files."""
    found = Scan()
    origins = find_origins(source)
    for origin in origins:
        _add(found, origin)
    if not found.frames:
        raise _nothing_found(found, origins)
    return found


def _add(found: Scan, origin: Origin) -> None:
    try:
        dataset, complete = _header(origin)
    except InputError:
        raise
    except InvalidDicomError:
        found.skipped["not_dicom"].append(origin)
        return
    except FileNotFoundError:
        found.skipped["missing_file"].append(origin)
        return
    except Exception:  # whatever pydicom meets in damaged bytes
        found.skipped["damaged_file"].append(origin)
        return
    if _is_dicomdir(dataset):
        return  # an index of the very files that are scanned here
    reason = _add_frames(found, origin, dataset, complete)
    if reason:
        found.skipped[reason].append(origin)


def _add_frames(found: Scan, origin: Origin, dataset: Dataset, complete: bool) -> str | None:
    """Append the frames; return the reason to skip them instead, if there is one."""
    try:
        if not dataset.get("Rows") or not dataset.get("Columns") or dataset.get("SamplesPerPixel", 1) != 1:
            return "not_an_image"
        if str(dataset.get("Modality", "")) != "MR":
            return "not_mr"
        if not complete:
            return "damaged_file"
        read = enhanced_frames if is_enhanced(dataset) else _classic_frames
        found.frames.extend(read(origin, dataset))
    except (AttributeError, KeyError, IndexError):
        return "no_geometry"
    except Exception:  # values that pydicom converts only now
        return "damaged_file"
    return None


def _is_dicomdir(dataset: Dataset) -> bool:
    meta = getattr(dataset, "file_meta", None) or Dataset()
    return bool(meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage)


def _classic_frames(origin: Origin, dataset: Dataset) -> list[Frame]:
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise AttributeError("several frames without functional groups have no geometry")
    return [classic_frame(origin, dataset)]


def _header(origin: Origin) -> tuple[Dataset, bool]:
    """The header, and whether the pixel data follow it in full length."""
    if isinstance(origin, Dataset):
        pixels = origin.get("PixelData")
        return origin, pixels is not None and _are_complete(origin, len(pixels))
    with origin.open("rb") as stream:
        forced = _starts_without_preamble(stream)
        dataset = pydicom.dcmread(stream, force=forced, stop_before_pixels=True, specific_tags=HEADER_TAGS)
        element_header = 8 if _syntax(dataset) == ImplicitVRLittleEndian else 12
        start = stream.tell() + element_header
        return dataset, _are_complete(dataset, stream.seek(0, io.SEEK_END) - start)


def _starts_without_preamble(stream: BinaryIO) -> bool:
    """Old files lack the 128 byte preamble and begin with an element of group 2 or 8."""
    start = stream.read(132)
    stream.seek(0, io.SEEK_SET)
    return start[128:] != b"DICM" and start[:2] in (b"\x02\x00", b"\x08\x00") and len(start) == 132


def _syntax(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None) or Dataset()
    return str(meta.get("TransferSyntaxUID", ImplicitVRLittleEndian))


def _are_complete(dataset: Dataset, pixel_bytes: int) -> bool:
    """Whether an uncompressed image has all its pixels; others show it when they are decoded."""
    if _syntax(dataset) not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian) or not dataset.get("Rows"):
        return True
    frames = int(dataset.get("NumberOfFrames") or 1)
    bits = int(dataset.get("BitsAllocated", 16))
    return pixel_bytes >= int(dataset.Rows) * int(dataset.Columns) * frames * bits // 8


def _nothing_found(found: Scan, origins: Sequence[Origin]) -> InputError:
    skipped, files = found.skipped, paths_of(origins)
    if "no_geometry" in skipped:
        return InputError(
            "no_geometry", "the MR images say nothing about position or orientation", files=files
        )
    if "not_mr" in skipped:
        return InputError("not_mr", "there are images, but none of modality MR", files=files)
    if "damaged_file" in skipped:
        return InputError("damaged_file", "every DICOM file is truncated or damaged", files=files)
    if "not_an_image" in skipped:
        return InputError("no_images", "there are DICOM objects, but no greyscale image", files=files)
    if "missing_file" in skipped:
        return InputError("missing_file", "none of the files that the DICOMDIR lists is there", files=files)
    if len(origins) == 1:
        return InputError("no_dicom", "the file is not a DICOM file", files=files)
    return InputError("no_dicom", f"none of the {len(origins)} files is a DICOM file", files=files)
