"""DICOM in a zip archive, read where it lies: no member is written to disk, so no name can point anywhere.

A member is decompressed into memory whole, one at a time, which also checks its CRC. What an archive claims
to hold is limited before anything is decompressed, and `zipfile` never yields more than a member claims.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from spine_client.errors import InputError

_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
"""First bytes of an archive, and of one without members."""
MAX_MEMBERS = 100_000
MAX_MEMBER_BYTES = 2**30
MAX_TOTAL_BYTES = 8 * 2**30
MAX_RATIO = 100
"""Largest factor by which all members together may be compressed; images reach 2 to 10."""
_RATIO_COUNTS_FROM_BYTES = 2**26
_ENCRYPTED = 0x1
"""Bit of the general purpose flags (APPNOTE section 4.4.4)."""
_UNREADABLE = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, ValueError)


@dataclass(frozen=True)
class ArchiveMember:
    """One file of an archive."""

    path: Path
    """The archive."""
    info: zipfile.ZipInfo = field(repr=False)
    archive: zipfile.ZipFile = field(repr=False, compare=False)

    def open(self, mode: str = "rb") -> io.BytesIO:
        """The content. Raises `InputError` for an archive in the archive, else what zipfile raises."""
        content = self.archive.read(self.info)
        if content.startswith(_SIGNATURES):
            raise InputError("nested_archive", "the archive holds another archive; unpack it first",
                             files=[self.path])  # fmt: skip
        return io.BytesIO(content)


def is_archive(path: Path) -> bool:
    """Whether the file begins as a zip archive does."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) in _SIGNATURES
    except OSError:
        return False


def members_of(path: Path) -> list[ArchiveMember]:
    """The files in the archive, by name.

    Raises `InputError`: ``damaged_archive``, ``empty_archive``, ``encrypted_archive``, ``unsafe_archive``
    (names that point outside), ``archive_too_large`` (more than any study, or a zip bomb).
    """
    try:
        archive = zipfile.ZipFile(path)
    except _UNREADABLE:
        raise InputError("damaged_archive", "the zip archive is truncated or damaged", files=[path]) from None
    infos = [info for info in archive.infolist() if not info.is_dir()]
    problem = _problem(infos)
    if problem:
        archive.close()
        raise InputError(*problem, files=[path])
    ordered = sorted(infos, key=lambda info: info.filename)
    return [ArchiveMember(path, info, archive) for info in ordered]


def _problem(infos: Sequence[zipfile.ZipInfo]) -> tuple[str, str] | None:
    """Code and message of what speaks against reading the archive."""
    if not infos:
        return "empty_archive", "the zip archive holds no file"
    if any(info.flag_bits & _ENCRYPTED for info in infos):
        return "encrypted_archive", "the zip archive is encrypted; unpack it with its password first"
    if any(_points_outside(info.filename) for info in infos):
        return "unsafe_archive", "names in the zip archive point outside of it; do not trust it"
    sizes = [info.file_size for info in infos]
    total = sum(sizes)
    if len(infos) > MAX_MEMBERS or total > MAX_TOTAL_BYTES or max(sizes) > MAX_MEMBER_BYTES:
        what = f"{total / 2**30:.1f} GiB in {len(infos)} files"
        return "archive_too_large", f"the zip archive unpacks to {what}; unpack what is needed of it"
    if total > max(_RATIO_COUNTS_FROM_BYTES, MAX_RATIO * sum(info.compress_size for info in infos)):
        return "archive_too_large", "the zip archive unpacks to far more than images do: a zip bomb"
    return None


def _points_outside(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":")
