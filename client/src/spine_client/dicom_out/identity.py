"""Identifiers of what is written: the same result always gets the same ones, so that the report finds its
segmentation whichever is written first."""

from __future__ import annotations

import hashlib

from pydicom.uid import UID, generate_uid

from spine_client.report import ModelInfo
from spine_client.result import SpineResult

MANUFACTURER = "SpineServe"
SEGMENTATION_SERIES_NUMBER, MEASUREMENT_SERIES_NUMBER = 9001, 9002


def uid_for(result: SpineResult, purpose: str) -> UID:
    """UID of one thing (`purpose`) that is written about `result`."""
    labels = hashlib.sha256(result.labels.tobytes()).hexdigest()
    return generate_uid(entropy_srcs=[result.request_id, labels, result.to_json(), purpose])


def segmentation_model(result: SpineResult) -> ModelInfo:
    """The network behind the labels."""
    return result.provenance.segmentation or ModelInfo("unknown", "unknown", "", "unknown")


def software_version(result: SpineResult) -> str:
    """Version of the server's software; never empty, as DICOM demands."""
    return result.provenance.software_version or "unknown"
