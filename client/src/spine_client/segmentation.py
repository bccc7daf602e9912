"""The result of a plain segmentation: labels in the network's own numbers, and no report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spine_client.notices import Notice
from spine_client.volume import Volume

KIND = "spineserve.segmentation"


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """What a network made of one volume. Research software: not for diagnosis.

    Attributes
    ----------
    labels : (Z, Y, X) uint8 on the grid of the input, in the numbers of the network's own ``dataset.json``:
        0 is background; the others mean what they meant in its training, not what they mean in `SpineResult`.
    volume : the volume that was segmented.
    model : the entry model that answered, e.g. ``segmentation``.
    request_id : random id under which the server logged the request.
    elapsed_s : seconds from the call of `segment` to the answer.
    """

    labels: npt.NDArray[np.uint8]
    volume: Volume
    model: str
    request_id: str
    elapsed_s: float = 0.0

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """(4, 4), voxel index (x, y, z, 1) of `labels` → LPS mm."""
        return self.volume.affine

    @property
    def warnings(self) -> tuple[Notice, ...]:
        """What reading the source brought to light."""
        return self.volume.notices

    @property
    def volumes_mm3(self) -> dict[int, float]:
        """Volume of every label that is there, background left out, mm³."""
        voxel_mm3 = float(np.prod(self.volume.spacing_zyx_mm))
        numbers, counts = np.unique(self.labels, return_counts=True)
        return {int(n): float(count) * voxel_mm3 for n, count in zip(numbers, counts, strict=True) if n}

    def to_dict(self) -> dict[str, Any]:
        """Model, volumes of the labels, and warnings, ready for JSON."""
        return {
            "kind": KIND,
            "model": self.model,
            "request_id": self.request_id,
            "labels": [{"label": n, "volume_mm3": round(v, 3)} for n, v in self.volumes_mm3.items()],
            "warnings": [warning.to_dict() for warning in self.warnings],
        }

    def to_json(self) -> str:
        """`to_dict` as indented JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def save(self, directory: str | Path, *, formats: Sequence[str] | None = None) -> dict[str, Path]:
        """Write ``json`` (segmentation.json) and ``nifti`` (labels.nii.gz, extra ``nifti``), or one of them.

        `directory` is made if absent; the path of each format is returned. Raises `MissingExtra` before it
        writes.
        """
        from spine_client.saving import SEGMENTATION_FORMATS, write_formats

        return write_formats(
            self, Path(directory), formats or tuple(SEGMENTATION_FORMATS), SEGMENTATION_FORMATS
        )
