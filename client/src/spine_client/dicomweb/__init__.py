"""DICOMweb: series from a PACS, and results back to it (PS3.18).

`pacs` is what callers use; `address` reads ``dicomweb://`` addresses, `session` talks HTTP, `problems` turns
what goes wrong there into this SDK's errors. No address, UID or header reaches a log or a message.
"""

from __future__ import annotations

from spine_client.dicomweb.address import Address, is_address, parse_address
from spine_client.dicomweb.pacs import Pacs, RemoteSeries, SeriesEntry, remote_series

__all__ = ["Address", "Pacs", "RemoteSeries", "SeriesEntry", "is_address", "parse_address", "remote_series"]
