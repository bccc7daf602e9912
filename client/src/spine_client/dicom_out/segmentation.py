"""The label map as a DICOM segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highdicom
import numpy as np
from pydicom.sr.coding import Code

from spine_client._contract import CANAL_LABEL
from spine_client.dicom.quiet import quiet_pydicom
from spine_client.dicom_out import codes, identity
from spine_client.dicom_out.sources import SourceImages, source_images
from spine_client.errors import InputError
from spine_client.overlay import style
from spine_client.report import Disc, Vertebra
from spine_client.result import SpineResult


@dataclass(frozen=True)
class Structure:
    """One segment: its number, from 1, the label it comes from, its title and code."""

    number: int
    label: int
    title: str
    code: Code


def structures(result: SpineResult) -> list[Structure]:
    """Everything in the label map, bodies and discs by name, in the order of the labels."""
    named: list[Vertebra | Disc] = [*result.vertebrae, *result.discs]
    titles = {item.label: item.title for item in named} | {CANAL_LABEL: "Spinal canal"}
    names = {item.label: item.name for item in named}
    present = [int(label) for label in np.unique(result.labels) if label]
    return [
        Structure(
            number, label, titles.get(label, f"Label {label}"), codes.structure_code(label, names.get(label))
        )
        for number, label in enumerate(present, start=1)
    ]


def build_segmentation(result: SpineResult) -> highdicom.seg.Segmentation:
    """One BINARY segment per structure, on the frames of the source images."""
    found = structures(result)
    if not found:
        raise InputError("nothing_found", "no structure was found, so there is no segmentation to write")
    with quiet_pydicom():
        segmentation = _segmentation(result, found, source_images(result))
    _set_slice_distance(segmentation, result.volume.spacing_zyx_mm[0])
    return segmentation


def _segmentation(
    result: SpineResult, found: list[Structure], source: SourceImages
) -> highdicom.seg.Segmentation:
    numbers = np.zeros(256, np.uint8)
    numbers[[structure.label for structure in found]] = [structure.number for structure in found]
    model = identity.segmentation_model(result)
    return highdicom.seg.Segmentation(
        source_images=list(source.datasets),
        pixel_array=numbers[source.labels],
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(result, structure) for structure in found],
        series_instance_uid=identity.uid_for(result, "segmentation series"),
        series_number=identity.SEGMENTATION_SERIES_NUMBER,
        sop_instance_uid=identity.uid_for(result, "segmentation"),
        instance_number=1,
        manufacturer=identity.MANUFACTURER,
        manufacturer_model_name=model.name,
        software_versions=identity.software_version(result),
        device_serial_number=model.sha256[:16] or "unknown",
        content_label="SPINE",
        content_description="Research software, not for diagnosis",
        series_description="Spine segmentation (research)",
    )


def _set_slice_distance(segmentation: highdicom.seg.Segmentation, step_mm: float) -> None:
    """Slice distance from the positions; highdicom copies the source's element, which may be wrong."""
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = f"{step_mm:.10f}"[:16]


def _description(result: SpineResult, structure: Structure) -> highdicom.seg.SegmentDescription:
    model = identity.segmentation_model(result)
    colour: Any = highdicom.color.CIELabColor.from_string(style.colour_of(structure.label, structure.label))
    return highdicom.seg.SegmentDescription(
        segment_number=structure.number,
        segment_label=structure.title,
        segmented_property_category=codes.CATEGORY,
        segmented_property_type=structure.code,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=model.name,
            version=model.version,
            family=codes.ALGORITHM_FAMILY,
            source=identity.MANUFACTURER,
        ),
        tracking_uid=identity.uid_for(result, f"structure {structure.label}"),
        tracking_id=structure.title,
        display_color=colour,
    )
