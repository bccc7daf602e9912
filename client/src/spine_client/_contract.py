"""The server's contract as the client needs it: names, types, label numbers.

A contract test holds this file to the server's own contract and to the `config.pbtxt` of the models.
"""

from __future__ import annotations

ENTRY_MODEL = "spine_mri"
SEGMENTATION_MODEL = "segmentation"
"""The second entry: the same inputs, `LABELS` alone, in the network's own numbers."""

ATTENDANT_MODEL = "attendant"
LEFT = "LEFT"
STATE = "STATE"
"""It is told whose caller has left, and answers with the supervisor's state as JSON."""

# Inputs: flat bytes of (C, Z, Y, X) voxels, and how to read them.
VOLUME = "VOLUME"
SHAPE = "SHAPE"
DTYPE = "DTYPE"
AFFINE = "AFFINE"
OPTIONS = "OPTIONS"

# Outputs: label map on the input grid, and the report as JSON.
LABELS = "LABELS"
REPORT = "REPORT"

INPUT_DATATYPES = {VOLUME: "UINT8", SHAPE: "INT64", DTYPE: "BYTES", AFFINE: "FP64", OPTIONS: "BYTES"}
OUTPUT_DATATYPES = {LABELS: "UINT8", REPORT: "BYTES"}
SEGMENTATION_OUTPUT_DATATYPES = {LABELS: "UINT8"}
VOXEL_DTYPES = ("int16", "uint16", "float32")
"""What `DTYPE` may say. Voxels travel little-endian."""

SCHEMA_MAJOR = 1
"""Major part of the report's `schema_version` that this SDK understands."""
REPORT_KIND = "spineserve.report"

REGIONS = ("cervical", "thoracic", "lumbar")
MODES = ("exact", "default", "fast")

# Label numbers (VerSe / SPINEPS): C1…C7 = 1…7, T1…T12 = 8…19, L1…L6 = 20…25, T13 = 28.
SACRUM_LABEL = 26
CANAL_LABEL = 61
DISC_OFFSET = 100
"""The disc below vertebra N carries 100 + N."""
UNNAMED_OFFSET = 70
"""Vertebrae without a name carry 71, 72, … from the top of the image."""
