"""What `spine` does with a PACS: where the images come from, and where results go."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import Any, TextIO

from spine_client.config import Tls
from spine_client.dicomweb import Pacs, is_address, parse_address, remote_series
from spine_client.errors import InputError
from spine_client.result import SpineResult
from spine_client.saving import missing_extra
from spine_client.sources import Source


def source_of(arguments: Namespace) -> Source:
    """The path that was given, or the series at the address."""
    if not is_address(arguments.path):
        path: Source = arguments.path
        return path
    return remote_series(arguments.path, **_settings(arguments))


def store_in(arguments: Namespace) -> Pacs | None:
    """The PACS that results are to be stored in, None if they are not.

    Raises before anything is analysed where that cannot work.
    """
    if arguments.store is None:
        return None
    if error := missing_extra("sr"):
        raise error
    target = arguments.store or arguments.path
    if not is_address(target):
        raise InputError(
            "address", "the images come from no PACS: say where to, --store dicomweb://host/dicom-web"
        )
    return Pacs(parse_address(target).root, **_settings(arguments))


def store(result: SpineResult, pacs: Pacs, err: TextIO) -> None:
    """Store segmentation and report, and say so."""
    pacs.store_result(result)
    err.write("stored segmentation and structured report in the PACS\n")


def _settings(arguments: Namespace) -> dict[str, Any]:
    return {
        "authorization": _authorization(arguments.pacs_auth_env),
        "tls": Tls(root_certificates=arguments.pacs_ca) if arguments.pacs_ca else None,
        "allow_plaintext": arguments.pacs_allow_plaintext,
    }


def _authorization(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not os.environ.get(variable, "").strip():
        raise InputError("pacs_access", "the environment variable named by --pacs-auth-env is not set")
    return os.environ[variable]
