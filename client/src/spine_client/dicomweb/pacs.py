"""A PACS that speaks DICOMweb: find series, fetch them into memory, store results."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from spine_client.config import Tls
from spine_client.dicomweb.address import check_uid, parse_address
from spine_client.errors import AccessRefused, InputError, ProtocolError, ServerFailed, ServerUnavailable

if TYPE_CHECKING:
    from pydicom import Dataset

    from spine_client.result import SpineResult

DEFAULT_PACS_TIMEOUT_S = 120.0
_AS_STORED = (("application/dicom", "*"),)
"""Any transfer syntax: not every PACS can decompress, and nothing is lost on the way."""
_FIELDS = ("Modality", "SeriesDescription", "NumberOfSeriesRelatedInstances")


@dataclass(frozen=True)
class SeriesEntry:
    """A series as the PACS lists it. Nothing of it is in its repr."""

    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    modality: str = field(repr=False)
    description: str = field(repr=False)
    images: int | None = field(repr=False)
    """How many images the PACS says there are; None where it does not say."""


@dataclass(frozen=True)
class Pacs:
    """A DICOMweb service. It holds no connection; every call makes its own.

    Parameters
    ----------
    url : root of the service: ``https://host/dicom-web``, ``dicomweb://host/dicom-web`` (the same), or
        ``http://…`` where nobody else listens: what comes and goes carries the patient.
    bearer_token : token, or a callable that is asked anew for every request.
    authorization : the whole value of the header instead, such as ``"Basic …"``, or a callable.
    tls : roots to trust in place of those that certifi brings, and a certificate of one's own.
    allow_plaintext : let a secret go over ``http://``.
    timeout_s : seconds for one call: a search, all of a series, or storing.

    Raises `InputError` for an address that is none, a secret that would go unencrypted, and files of `tls`
    that cannot be read.
    """

    url: str
    _: KW_ONLY
    bearer_token: str | Callable[[], str] | None = field(default=None, repr=False)
    authorization: str | Callable[[], str] | None = field(default=None, repr=False)
    tls: Tls | None = None
    allow_plaintext: bool = False
    timeout_s: float = DEFAULT_PACS_TIMEOUT_S

    def __post_init__(self) -> None:
        if parse_address(self.url).study_uid is not None:
            raise InputError("address", "expected the root of the service, without /studies/…")
        if self.bearer_token is not None and self.authorization is not None:
            raise InputError("pacs_access", "give bearer_token or authorization, not both")
        has_secret = self.bearer_token is not None or self.authorization is not None
        if has_secret and self.root.startswith("http:") and not self.allow_plaintext:
            raise InputError("plaintext_secret", "a key or token needs https://, or allow_plaintext=True")
        _check_files(self.tls or Tls())

    @property
    def root(self) -> str:
        """``https://host/dicom-web``."""
        return parse_address(self.url).root

    def authorization_value(self) -> str | None:
        """Value of the Authorization header, asked anew."""
        if self.bearer_token is not None:
            return f"Bearer {_value(self.bearer_token)}"
        return None if self.authorization is None else _value(self.authorization)

    def series(self, study_uid: str, series_uid: str | None = None) -> RemoteSeries:
        """A source for `analyze`: one series, or the best one of a study by the usual rule."""
        return RemoteSeries(self, study_uid, series_uid)

    def find_series(self, **attributes: str) -> tuple[SeriesEntry, ...]:
        """Series that match (QIDO-RS): ``find_series(PatientID="…", Modality="MR")``, DICOM keywords."""
        from spine_client.dicomweb.session import conversation

        with conversation(self, timeout_s=self.timeout_s) as client:
            study_uid = attributes.pop("StudyInstanceUID", None)
            if study_uid is not None:
                check_uid(study_uid)
            found = client.search_for_series(study_uid, fields=_FIELDS, search_filters=attributes)
            return tuple(_entry(item, study_uid) for item in found)

    def fetch(self, study_uid: str, series_uid: str, *, timeout_s: float | None = None) -> list[Dataset]:
        """All images of a series, streamed into memory (WADO-RS).

        Raises `InputError` ``no_such_series``, and `ServerUnavailable` where the PACS lists more images than
        came: a transfer cut between two images looks like a shorter series.
        """
        from spine_client.dicomweb.problems import took_too_long
        from spine_client.dicomweb.session import conversation

        check_uid(study_uid), check_uid(series_uid)
        seconds = self.timeout_s if timeout_s is None else min(self.timeout_s, timeout_s)
        if seconds <= 0:
            raise took_too_long()
        end = time.monotonic() + seconds
        datasets = []
        with conversation(self, timeout_s=seconds) as client:
            for dataset in client.iter_series(study_uid, series_uid, media_types=_AS_STORED):
                datasets.append(dataset)
                if time.monotonic() > end:
                    raise took_too_long()
        if not datasets:
            raise InputError("no_such_series", "the PACS has no image of this series")
        expected = self._listed_images(study_uid, series_uid)
        if expected is not None and len(datasets) < expected:
            raise ServerUnavailable(f"the PACS sent {len(datasets)} of {expected} images; try again")
        return datasets

    def _listed_images(self, study_uid: str, series_uid: str) -> int | None:
        """How many images the PACS says the series has; None if it does not say, or may not be asked."""
        try:
            found = self.find_series(StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid)
        except (AccessRefused, InputError, ProtocolError):
            return None
        return next((entry.images for entry in found if entry.series_uid == series_uid), None)

    def store(self, datasets: Sequence[Dataset]) -> None:
        """Store objects (STOW-RS). Raises `ServerFailed` unless the PACS took all of them."""
        from spine_client.dicomweb.session import conversation

        with conversation(self, timeout_s=self.timeout_s, storing=True) as client:
            _check_stored(client.store_instances(datasets), datasets)

    def store_result(self, result: SpineResult) -> None:
        """Store the segmentation and the structured report of a result (extra ``dicom``)."""
        from spine_client.dicom_out import dicom_objects

        self.store(dicom_objects(result))


@dataclass(frozen=True)
class RemoteSeries:
    """A series, or a study, that a PACS holds: a source for `analyze`. Its UIDs stay out of the repr."""

    pacs: Pacs
    study_uid: str = field(repr=False)
    series_uid: str | None = field(default=None, repr=False)

    def fetch(self, series: str | None = None, *, timeout_s: float | None = None) -> list[Dataset]:
        """The images of this series, of `series` (an id of `spine inspect`), or all MR of the study."""
        named = series.split("#")[0] if series else None
        if self.series_uid is not None:
            wanted = [self.series_uid]
        elif named is not None:
            wanted = [named]
        else:
            found = self.pacs.find_series(StudyInstanceUID=self.study_uid, Modality="MR")
            wanted = [entry.series_uid for entry in found if entry.modality == "MR"]
        if not wanted:
            raise InputError("no_such_series", "the PACS holds no MR series of this study")
        return [item for uid in wanted for item in self.pacs.fetch(self.study_uid, uid, timeout_s=timeout_s)]


def remote_series(address: str, **settings: Any) -> RemoteSeries:
    """The source behind ``dicomweb://host/dicom-web/studies/…/series/…``; `settings` as `Pacs` takes them."""
    parsed = parse_address(address)
    if parsed.study_uid is None:
        raise InputError("address", "the address names no study: …/studies/<UID>/series/<UID>")
    return RemoteSeries(Pacs(parsed.root, **settings), parsed.study_uid, parsed.series_uid)


def _value(secret: str | Callable[[], str]) -> str:
    return secret if isinstance(secret, str) else secret()


def _check_files(tls: Tls) -> None:
    if tls.server_name is not None:
        raise InputError("pacs_access", "a PACS is checked by the name in its address; leave server_name out")
    files = (tls.root_certificates, tls.certificate, tls.private_key)
    if not all(os.access(file, os.R_OK) for file in files if file is not None):
        raise InputError("tls_file", "a certificate or key file cannot be read")


def _entry(item: dict[str, Any], study_uid: str | None) -> SeriesEntry:
    from pydicom import Dataset

    series = Dataset.from_json(item)
    images = series.get("NumberOfSeriesRelatedInstances")
    return SeriesEntry(
        study_uid=str(series.get("StudyInstanceUID", study_uid or "")),
        series_uid=str(series.get("SeriesInstanceUID", "")),
        modality=str(series.get("Modality", "")),
        description=str(series.get("SeriesDescription", "")),
        images=int(images) if images not in (None, "") else None,
    )


def _check_stored(answer: Dataset, datasets: Sequence[Dataset]) -> None:
    failed = answer.get("FailedSOPSequence") or ()
    if failed:
        reasons = sorted({f"{int(item.get('FailureReason', 0)):04X}" for item in failed})
        raise ServerFailed(
            f"the PACS refused to store {len(failed)} of {len(datasets)} objects "
            f"(failure reason {', '.join(reasons)})"
        )
    stored = {str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence") or ()}
    if stored and not {str(item.SOPInstanceUID) for item in datasets} <= stored:
        raise ServerFailed("the PACS did not confirm that it stored all objects")
