"""The command line `spine`."""

from __future__ import annotations

from spine_client.cli.main import main

__all__ = ["main"]
