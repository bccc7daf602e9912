"""Enhanced multi-frame MR: the frames of one file.

Per-frame functional groups override shared ones (PS3.3 section C.7.6.16).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom import Dataset

from spine_client.dicom.files import Origin
from spine_client.dicom.frame import Frame, common_attributes, floats, optional_float, optional_int


def is_enhanced(dataset: Dataset) -> bool:
    """Whether the geometry lies in functional groups."""
    return "PerFrameFunctionalGroupsSequence" in dataset


def enhanced_frames(origin: Origin, dataset: Dataset) -> list[Frame]:
    """All frames. Raises AttributeError or ValueError where one has no geometry."""
    groups = dataset.PerFrameFunctionalGroupsSequence
    count = int(dataset.get("NumberOfFrames", len(groups)))
    if count != len(groups):
        raise ValueError("number of frames and of functional groups differ")
    shared_groups = dataset.get("SharedFunctionalGroupsSequence")
    shared = shared_groups[0] if shared_groups else Dataset()
    common = common_attributes(dataset)
    image_type = tuple(str(value) for value in dataset.get("ImageType") or ())

    def one(index: int, group: Dataset) -> Frame:
        def macro(name: str) -> Dataset:
            sequence = group.get(name) or shared.get(name)
            return sequence[0] if sequence else Dataset()

        return Frame(origin=origin, index=index, **common, **_geometry(macro), **_kind(macro, image_type))

    return [one(index, group) for index, group in enumerate(groups)]


def _geometry(macro: Callable[[str], Dataset]) -> dict[str, Any]:
    return {
        "position": floats(macro("PlanePositionSequence").ImagePositionPatient, 3),
        "orientation": floats(macro("PlaneOrientationSequence").ImageOrientationPatient, 6),
        "spacing": floats(macro("PixelMeasuresSequence").PixelSpacing, 2),
    }


def _kind(macro: Callable[[str], Dataset], image_type: tuple[str, ...]) -> dict[str, Any]:
    transformation = macro("PixelValueTransformationSequence")
    frame_type = macro("MRImageFrameTypeSequence").get("FrameType")
    return {
        "echo_number": None,
        "echo_time_ms": optional_float(macro("MREchoSequence").get("EffectiveEchoTime")),
        "temporal": optional_int(macro("FrameContentSequence").get("TemporalPositionIndex")),
        "image_type": tuple(str(value) for value in frame_type) if frame_type else image_type,
        "slope": optional_float(transformation.get("RescaleSlope"), 1.0),
        "intercept": optional_float(transformation.get("RescaleIntercept"), 0.0),
    }
