"""The errors of spine_export. Each is one sentence that says what to do or what is not supported.

SpineError
├── ModelError       (spinecore) files of a network are missing, damaged, or contradict each other
└── ExportError      what was asked for cannot be done
    ├── Unsupported  nnU-Net can do it, this exporter cannot
    └── GateError    the exported network does not answer as it must; nothing was written
"""

from __future__ import annotations

from spinecore.errors import SpineError


class ExportError(SpineError):
    """What was asked for cannot be done."""


class Unsupported(ExportError):  # noqa: N818 - it reads as what it is
    """A feature of nnU-Net that is not served."""


class GateError(ExportError):
    """The exported network misses its precision's tolerance."""
