"""NRRD and MetaImage in, by SimpleITK, whose frame is LPS as ours.

SimpleITK fills in an identity where a header says nothing about orientation, so the few fields that tell are
read here first: a volume of unknown orientation is refused, as are headers that point to other files.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spine_client.errors import InputError, MissingExtra
from spine_client.volume import Volume

SUFFIXES = (".nrrd", ".mha")
_HEADER_BYTES = 2**16
_NRRD_SPACES = {
    "right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps",
}  # fmt: skip
"""Spaces of the NRRD definition that say which way is up; SimpleITK turns all to LPS."""
_META_DIRECTIONS = ("transformmatrix", "rotation", "orientation")
MAX_BYTES = 2**31
"""Most that one request can carry; a header that claims more is not believed."""


def is_itk(path: Path) -> bool:
    """Whether the file name says NRRD or MetaImage with its voxels inside."""
    return path.name.lower().endswith(SUFFIXES)


def read_itk(path: Path) -> Volume:
    """Read a 3-D ``.nrrd`` or ``.mha`` file.

    Raises `InputError`: ``damaged_file``, ``no_orientation``, ``detached_voxels``, ``space_units``,
    ``not_3d``, ``too_large``.
    """
    simpleitk = _simpleitk()
    _check_header(path, _header_fields(path))
    reader = simpleitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_size(reader)
        image = reader.Execute()
    except (RuntimeError, MemoryError, OverflowError):  # SimpleITK's texts name the file
        raise InputError(
            "damaged_file", "the file is damaged, or not what its name says", files=[path]
        ) from None
    return Volume(simpleitk.GetArrayFromImage(image), _affine(image))


def _simpleitk() -> Any:
    try:
        simpleitk = import_module("SimpleITK")
    except ImportError as error:
        raise MissingExtra("itk", "Reading NRRD and MetaImage") from error
    simpleitk.ProcessObject.GlobalWarningDisplayOff()  # its warnings name the file
    return simpleitk


def _header_fields(path: Path) -> dict[str, str]:
    """Fields of the text header, names in lower case without spaces: ``Key = value`` or ``key: value``."""
    try:
        with path.open("rb") as stream:
            text = stream.read(_HEADER_BYTES).decode("latin-1")
    except OSError:
        raise InputError(
            "no_such_path", "there is no such file, or it cannot be read", files=[path]
        ) from None
    fields: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"([A-Za-z ]+?)\s*(?:=|:=|:)\s*(.*)", line)
        if match:
            fields.setdefault(match[1].replace(" ", "").lower(), match[2].strip())
        if not line.strip() or "elementdatafile" in fields:
            break
    return fields


def _check_header(path: Path, fields: dict[str, str]) -> None:
    nrrd = path.name.lower().endswith(".nrrd")
    if "datafile" in fields or fields.get("elementdatafile", "LOCAL").upper() != "LOCAL":
        message = "the header points to voxels in another file; save both as one file"
        raise InputError("detached_voxels", message, files=[path])
    placed = (
        fields.get("space", "").lower() in _NRRD_SPACES and "spacedirections" in fields
        if nrrd
        else any(name in fields for name in _META_DIRECTIONS)
    )
    if not placed:
        message = "the header does not say how the voxels lie in the patient; save it with orientation"
        raise InputError("no_orientation", message, files=[path])
    if set(re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))) - {"mm", "millimeters", ""}:
        raise InputError("space_units", "the space units are not millimetres", files=[path])


def _check_size(reader: Any) -> None:
    sizes = reader.GetSize()
    if len(sizes) != 3 or reader.GetNumberOfComponents() != 1:
        what = f"{len(sizes)} axes with {reader.GetNumberOfComponents()} values per voxel"
        raise InputError("not_3d", f"expected one 3-D image with one value per voxel, got {what}")
    if np.prod(sizes, dtype=np.float64) > MAX_BYTES:
        raise InputError("too_large", f"the header claims {'×'.join(map(str, sizes))} voxels")


def _affine(image: Any) -> npt.NDArray[np.float64]:
    """(4, 4), voxel index (x, y, z, 1) → LPS mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return affine
