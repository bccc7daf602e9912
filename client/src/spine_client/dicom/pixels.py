"""Decodes the pixels of ordered frames into one array."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from spine_client.dicom.files import Origin, paths_of
from spine_client.dicom.frame import HEADER_TAGS, Frame, PixelFormat
from spine_client.errors import InputError, MissingExtra
from spine_client.notices import Notice, notice

_EXTRA_DECODES = {
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}
"""Transfer syntaxes that the extra ``compressed`` brings decoders for. RLE needs none."""


def read_pixels(frames: Sequence[Frame]) -> tuple[npt.NDArray[Any], list[Notice]]:
    """Voxels (Z, Y, X) in the frames' order, rescaled frame by frame: whole numbers stay int, else float32.

    Raises `MissingExtra` for a compression that needs a decoder to be installed, `InputError` ``compressed``
    for one that has none, ``damaged_pixels`` where decoding fails.
    """
    for syntax in {frame.pixels.transfer_syntax for frame in frames}:
        _check_decodable(syntax)
    whole = all(frame.slope.is_integer() and frame.intercept.is_integer() for frame in frames)
    dtype = np.int64 if whole else np.float32
    first = frames[0]
    voxels = np.empty((len(frames), first.rows, first.columns), dtype=dtype)
    for z, frame in enumerate(frames):
        voxels[z] = _rescaled(_decode(frame), frame, dtype)
    return voxels, _notices(frames)


def _check_decodable(syntax: str) -> None:
    uid = UID(syntax)
    if not uid.is_transfer_syntax or not uid.is_compressed:
        return
    try:
        if get_decoder(uid).is_available:
            return
    except NotImplementedError:
        pass
    if syntax in _EXTRA_DECODES:
        raise MissingExtra("compressed", f"Decoding {_EXTRA_DECODES[syntax]} images")
    raise InputError(
        "compressed", f"images compressed as «{uid.name}» cannot be read; export them uncompressed"
    )


def _decode(frame: Frame) -> npt.NDArray[Any]:
    """Stored values of one frame, (rows, columns)."""
    try:
        pixels = _stored_values(frame)
    except Exception:  # whatever a decoder meets in damaged bytes
        raise InputError(
            "damaged_pixels", "the pixel data of an image are damaged; export the series again",
            files=paths_of([frame.origin]),
        ) from None  # fmt: skip
    if pixels.shape != (frame.rows, frame.columns):
        raise InputError(
            "damaged_pixels", f"expected {frame.rows}×{frame.columns} pixels, got {pixels.shape}"
        )
    return _stored_bits(pixels, frame.pixels)


def _stored_values(frame: Frame) -> npt.NDArray[Any]:
    if not frame.pixels.transfer_syntax:
        return np.asarray(pixel_array(_with_syntax(frame.origin), index=frame.index))
    if isinstance(frame.origin, Dataset):
        return np.asarray(pixel_array(frame.origin, index=frame.index))
    with frame.origin.open("rb") as stream:
        return np.asarray(pixel_array(stream, index=frame.index))


def _with_syntax(origin: Origin) -> Dataset:
    """A dataset that came without file meta information, told how it is encoded."""
    if isinstance(origin, Dataset):
        dataset = copy.copy(origin)
    else:
        with origin.open("rb") as stream:
            dataset = pydicom.dcmread(stream, force=True, specific_tags=[*HEADER_TAGS, "PixelData"])
    dataset.file_meta = FileMetaDataset()
    implicit = dataset.original_encoding[0]
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return dataset


def _stored_bits(pixels: npt.NDArray[Any], pixel_format: PixelFormat) -> npt.NDArray[Any]:
    """Cut away what else lies in the words (overlays) and extend the sign bit (PS3.5 section 8.1.1)."""
    if pixels.dtype.kind not in "iu":
        return pixels
    word = 8 * pixels.dtype.itemsize
    if pixel_format.stored >= word or pixel_format.high >= word:
        return pixels
    kind = "i" if pixel_format.signed else "u"
    words = pixels.view(f"{kind}{pixels.dtype.itemsize}")
    return np.asarray((words << (word - 1 - pixel_format.high)) >> (word - pixel_format.stored))


def _rescaled(pixels: npt.NDArray[Any], frame: Frame, dtype: type) -> npt.NDArray[Any]:
    values = pixels.astype(dtype) * dtype(frame.slope) + dtype(frame.intercept)
    return np.asarray(-values if frame.pixels.inverted else values)


def _notices(frames: Sequence[Frame]) -> list[Notice]:
    notices = []
    if len({(frame.slope, frame.intercept) for frame in frames}) > 1:
        notices.append(
            notice("rescale_varies", "rescale slope or intercept vary between slices; all were applied")
        )
    if any(frame.pixels.inverted for frame in frames):
        notices.append(
            notice("inverted", "MONOCHROME1 images were inverted, so that large values are bright")
        )
    return notices
