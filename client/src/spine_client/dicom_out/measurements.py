"""The measurements as a DICOM structured report, TID 1500 (PS3.16)."""

from __future__ import annotations

import highdicom
from highdicom import sr
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from spine_client.dicom.quiet import quiet_pydicom
from spine_client.dicom_out import codes, identity
from spine_client.dicom_out.segmentation import build_segmentation, structures
from spine_client.dicom_out.sources import source_images
from spine_client.errors import InputError
from spine_client.report import Disc, DiscHeight, ModelInfo
from spine_client.result import SpineResult

_PLACES = (("anterior", codes.ANTERIOR), ("middle", codes.MIDDLE), ("posterior", codes.POSTERIOR))


def build_measurements(result: SpineResult) -> sr.Comprehensive3DSR:
    """One group per disc: its segment, its site, and every height and diameter with the method behind it."""
    measured = [disc for disc in result.discs if _measurements(result, disc)]
    if not measured:
        raise InputError("nothing_measured", "no disc was measured, so there is no report to write")
    segmentation = build_segmentation(result)
    with quiet_pydicom():
        report = sr.MeasurementReport(
            observation_context=_observer(result),
            procedure_reported=codes.PROCEDURE,
            imaging_measurements=[_group(result, disc, segmentation) for disc in measured],
            title=highdicom.sr.CodedConcept("126000", "DCM", "Imaging Measurement Report"),
        )
        document = sr.Comprehensive3DSR(
            evidence=[segmentation, *source_images(result).datasets],
            content=report,
            series_instance_uid=identity.uid_for(result, "measurement series"),
            series_number=identity.MEASUREMENT_SERIES_NUMBER,
            sop_instance_uid=identity.uid_for(result, "measurements"),
            instance_number=1,
            manufacturer=identity.MANUFACTURER,
            is_complete=True,
            is_final=False,
            is_verified=False,
            series_description="Spine measurements (research)",
        )
        _name_private_scheme(document)
    return document


def _group(
    result: SpineResult, disc: Disc, segmentation: highdicom.seg.Segmentation
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    number = next(item.number for item in structures(result) if item.label == disc.label)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=identity.uid_for(result, f"structure {disc.label}"), identifier=disc.title
        ),
        referenced_segment=sr.ReferencedSegment.from_segmentation(segmentation, segment_number=number),
        finding_category=codes.CATEGORY,
        finding_type=codes.disc_code(disc.name),
        finding_sites=[sr.FindingSite(codes.disc_code(disc.name))],
        measurements=_measurements(result, disc),
    )


def _measurements(result: SpineResult, disc: Disc) -> list[sr.Measurement]:
    segmentation, network = result.provenance.segmentation, result.provenance.measurement
    height, height_error = disc.height_mm, disc.height_mm.standard_error_mm
    canal, canal_error = disc.canal_ap_mm, disc.canal_ap_mm.standard_error_mm
    made = [
        *_heights(disc, height.geometric, height_error.geometric, codes.GEOMETRIC, segmentation),
        *_heights(disc, height.cnn, height_error.cnn, codes.CNN, network),
        *_heights(disc, height.reported, height_error.reported, codes.COMBINED, network),
    ]
    site = sr.FindingSite(codes.CANAL)
    for value, error, method, model in (
        (canal.geometric, canal_error.geometric, codes.GEOMETRIC, segmentation),
        (canal.cnn, canal_error.cnn, codes.CNN, network),
        (canal.reported, canal_error.reported, codes.COMBINED, network),
    ):
        if value is not None:
            made.append(_measurement(codes.CANAL_AP, value, error, site, method, model))
    return made


def _heights(
    disc: Disc, height: DiscHeight | None, error: DiscHeight | None, method: Code, model: ModelInfo | None
) -> list[sr.Measurement]:
    if height is None:
        return []
    error = error or DiscHeight(None, None, None, None)
    code = codes.disc_code(disc.name)
    made = []
    if height.mean is not None:
        made.append(
            _measurement(
                codes.HEIGHT,
                height.mean,
                error.mean,
                sr.FindingSite(code),
                method,
                model,
                derivation=codes.MEAN,
            )
        )
    for place, modifier in _PLACES:
        value = getattr(height, place)
        if value is not None:
            site = sr.FindingSite(code, topographical_modifier=modifier)
            made.append(_measurement(codes.HEIGHT, value, getattr(error, place), site, method, model))
    return made


def _measurement(
    name: Code,
    value_mm: float,
    error_mm: float | None,
    site: sr.FindingSite,
    method: Code,
    model: ModelInfo | None,
    *,
    derivation: Code | None = None,
) -> sr.Measurement:
    """One length; its standard error, where it is known, is its uncertainty upward and downward (TID 310)."""
    algorithm = properties = None
    if model is not None:
        algorithm = sr.AlgorithmIdentification(name=model.name, version=model.version)
    if error_mm is not None:
        properties = _uncertainty(error_mm)
    return sr.Measurement(
        name=name,
        value=value_mm,
        unit=codes.MILLIMETRE,
        derivation=derivation,
        method=method,
        finding_sites=[site],
        algorithm_id=algorithm,
        properties=properties,
    )


def _uncertainty(error_mm: float) -> sr.MeasurementProperties:
    properties = sr.MeasurementProperties(
        upper_measurement_uncertainty=error_mm, lower_measurement_uncertainty=error_mm
    )
    for item in properties:  # highdicom states them without a unit
        unit = highdicom.sr.CodedConcept.from_code(codes.MILLIMETRE)
        item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence = [unit]
    return properties


def _observer(result: SpineResult) -> sr.ObservationContext:
    model = identity.segmentation_model(result)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[identity.MANUFACTURER, model.name, model.sha256]),
        name=identity.MANUFACTURER,
        manufacturer_name=identity.MANUFACTURER,
        model_name=model.name,
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(codes.DEVICE, observer_identifying_attributes=device)
    )


def _name_private_scheme(document: Dataset) -> None:
    """Say whose codes the private ones are (PS3.3 section C.12.1)."""
    item = Dataset()
    item.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    item.CodingSchemeName = codes.PRIVATE_SCHEME_NAME
    item.CodingSchemeResponsibleOrganization = identity.MANUFACTURER
    document.CodingSchemeIdentificationSequence = [item]
