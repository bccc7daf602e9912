"""Addresses of DICOMweb resources: ``dicomweb://host/dicom-web/studies/1.2.3/series/4.5.6``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from spine_client.errors import InputError

_SCHEMES = {"dicomweb": "https", "dicomweb+http": "http", "https": "https", "http": "http"}
_ADDRESS = re.compile(
    r"(?P<scheme>[a-z+]+)://(?P<place>[^/?#@\s]+)(?P<prefix>(?:/[^/?#@\s]+)*?)"
    r"(?:/studies/(?P<study>[0-9.]{1,64})(?:/series/(?P<series>[0-9.]{1,64}))?)?/?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Address:
    """A DICOMweb service, and a study or series of it. The UIDs stay out of the repr."""

    root: str
    """``https://host:port/dicom-web``."""
    study_uid: str | None = field(default=None, repr=False)
    series_uid: str | None = field(default=None, repr=False)


def is_address(source: object) -> bool:
    """Whether a source is the address of a DICOMweb resource rather than a path."""
    return isinstance(source, str) and source.split("://")[0].lower() in _SCHEMES and "://" in source


def check_uid(uid: str) -> str:
    """`uid`, as it may stand in an address. Raises `InputError` ``"uid"``."""
    if not re.fullmatch(r"[0-9.]{1,64}", uid):
        raise InputError("uid", "a UID is made of up to 64 digits and dots")
    return uid


def parse_address(text: str) -> Address:
    """Read ``dicomweb://`` (over TLS), ``dicomweb+http://``, ``https://`` or ``http://`` addresses.

    The part before ``/studies/`` is the service's root. Raises `InputError` ``"address"``.
    """
    match = _ADDRESS.fullmatch(text)
    scheme = _SCHEMES.get(match["scheme"].lower()) if match else None
    if match is None or scheme is None or "/studies" in match["prefix"]:
        raise InputError(
            "address",
            "expected an address like dicomweb://host/dicom-web/studies/<UID>/series/<UID>, without a user, "
            "password or query in it",
        )
    return Address(f"{scheme}://{match['place']}{match['prefix']}", match["study"], match["series"])
