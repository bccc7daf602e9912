"""Client SDK of SpineServe.

>>> from spine_client import SpineClient
>>> with SpineClient("127.0.0.1:8001") as client:
...     result = client.analyze("/path/to/dicom/folder")
>>> for disc in result.discs:
...     print(disc.name, disc.height_mm.geometric, disc.canal_ap_mm.geometric)
>>> result.save("out")

Research software, trained on synthetic phantoms; not a medical device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spine_client.config import Access, RetryPolicy, Tls
from spine_client.dicomweb import Pacs, RemoteSeries
from spine_client.errors import (
    AccessRefused,
    DeadlineExceeded,
    InputError,
    MissingExtra,
    ProtocolError,
    RequestRejected,
    ServerFailed,
    ServerUnavailable,
    SpineClientError,
)
from spine_client.health import Health
from spine_client.notices import Notice
from spine_client.options import AnalyzeOptions
from spine_client.outcome import Outcome
from spine_client.progress import Progress
from spine_client.report import Disc, Report, Vertebra
from spine_client.result import SpineResult
from spine_client.segmentation import SegmentationResult
from spine_client.volume import Volume

if TYPE_CHECKING:
    from spine_client.aio import AsyncSpineClient
    from spine_client.client import SpineClient

__version__ = "0.1.0"

__all__ = [
    "Access",
    "AccessRefused",
    "AnalyzeOptions",
    "AsyncSpineClient",
    "DeadlineExceeded",
    "Disc",
    "Health",
    "InputError",
    "MissingExtra",
    "Notice",
    "Outcome",
    "Pacs",
    "Progress",
    "ProtocolError",
    "RemoteSeries",
    "Report",
    "RequestRejected",
    "RetryPolicy",
    "SegmentationResult",
    "ServerFailed",
    "ServerUnavailable",
    "SpineClient",
    "SpineClientError",
    "SpineResult",
    "Tls",
    "Vertebra",
    "Volume",
]


def __getattr__(name: str) -> object:
    """Import the clients only when they are used: gRPC takes longer to load than all the rest."""
    if name == "SpineClient":
        from spine_client.client import SpineClient

        return SpineClient
    if name == "AsyncSpineClient":
        from spine_client.aio import AsyncSpineClient

        return AsyncSpineClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
