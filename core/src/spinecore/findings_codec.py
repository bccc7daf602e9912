"""How findings travel from the model `identify` to the model `report`: the tensor FINDINGS, JSON in UTF-8.

Clients can reach `report` as well, so what comes back is held to the report's schema before it is used.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from spinecore.contract import FINDINGS, one_bytes
from spinecore.document import Document
from spinecore.errors import InputError
from spinecore.report import build_report, schema_errors

MAX_FINDINGS_BYTES = 2**20
_KEYS = {"input", "naming", "vertebrae", "discs", "canal", "warnings"}
_UNKNOWN_MODEL = {"name": "", "version": "", "sha256": "", "trained_on": ""}
_ENVELOPE = build_report(
    {"discs": []},
    heights_mm=np.zeros((0, 4)),
    canal_ap_mm=np.zeros(0),
    models={"segmentation": _UNKNOWN_MODEL, "measurement": _UNKNOWN_MODEL},
)


def encode_findings(document: Document) -> dict[str, npt.NDArray[Any]]:
    """The tensor FINDINGS from a findings document, by name."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return {FINDINGS.name: np.array([text.encode()], dtype=object)}


def decode_findings(value: npt.NDArray[Any] | bytes | str) -> Document:
    """Read the tensor FINDINGS; InputError ``findings`` if `identify` cannot have written it."""
    text = one_bytes(value)
    try:
        document = json.loads(text, parse_constant=_refuse) if len(text) <= MAX_FINDINGS_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not _is_sound(document):
        raise InputError("findings", "The tensor FINDINGS is not a document that `identify` wrote.")
    return document


def _is_sound(document: Document) -> bool:
    return document.keys() == _KEYS and not schema_errors({**_ENVELOPE, **document})


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
