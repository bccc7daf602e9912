"""The result of one analysis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spine_client.notices import Notice
from spine_client.report import Canal, Disc, Naming, Provenance, Report, Vertebra
from spine_client.rows import discs_frame
from spine_client.volume import Volume

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class SpineResult:
    """Labels and measurements of one volume. Research software: not for diagnosis.

    Attributes
    ----------
    labels : (Z, Y, X) uint8 on the grid of the input: C1…C7 = 1…7, T1…T12 = 8…19, L1…L6 = 20…25, sacrum 26,
        T13 28, canal 61, vertebrae without a name 71, 72, …; the disc below vertebra N is 100 + N.
    volume : the volume that was analysed.
    report : everything the server found, typed.
    request_id : random id under which the server logged the request.
    elapsed_s : seconds from the call of `analyze` to the answer.
    """

    labels: npt.NDArray[np.uint8]
    volume: Volume
    report: Report
    request_id: str
    elapsed_s: float = 0.0

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """(4, 4), voxel index (x, y, z, 1) of `labels` → LPS mm."""
        return self.volume.affine

    @property
    def vertebrae(self) -> tuple[Vertebra, ...]:
        """Vertebrae from the top down."""
        return self.report.vertebrae

    @property
    def discs(self) -> tuple[Disc, ...]:
        """Discs from the top down, with their measurements in mm."""
        return self.report.discs

    @property
    def canal(self) -> Canal:
        """The spinal canal as a whole."""
        return self.report.canal

    @property
    def naming(self) -> Naming:
        """How the levels were named, or why not."""
        return self.report.naming

    @property
    def provenance(self) -> Provenance:
        """Software and models behind the numbers."""
        return self.report.provenance

    @property
    def timings_s(self) -> dict[str, float]:
        """Seconds per stage on the server."""
        return self.report.timings_s

    @property
    def warnings(self) -> tuple[Notice, ...]:
        """What to know before trusting the numbers: from reading the source, then from the server."""
        return (*self.volume.notices, *self.report.warnings)

    def to_dict(self) -> dict[str, Any]:
        """The report by the published schema, with the warnings from reading the source added."""
        return {**self.report.raw, "warnings": [warning.to_dict() for warning in self.warnings]}

    def to_json(self) -> str:
        """`to_dict` as indented JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def to_frame(self) -> DataFrame:
        """The discs as a pandas table, one row each, from the top down (extra ``pandas``).

        Columns: `spine_client.rows.DISC_COLUMNS`, lengths in mm as float64, NaN where nothing was measured.
        Many studies: ``pandas.concat({name: result.to_frame() for …}, names=["study"])``.
        """
        return discs_frame(self.discs)

    def save(self, directory: str | Path, *, formats: Sequence[str] | None = None) -> dict[str, Path]:
        """Write the result into `directory` (made if absent); the path of each format written.

        `formats`: any of ``json`` (report.json), ``nifti`` (labels.nii.gz, extra ``nifti``), ``overlay``
        (overlay.png) and ``html`` (report.html, one self-contained page; both extra ``report``), ``seg``
        (segmentation.dcm) and ``sr`` (measurements.dcm, with ``seg``; both extra ``dicom``, for a DICOM
        source); None means the first four. The DICOM files carry the patient of the source images; the
        others never do. Raises `MissingExtra` before it writes.
        """
        from spine_client.saving import save

        return save(self, Path(directory), formats)
