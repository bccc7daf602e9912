"""report.html: one self-contained page to look through a result."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from spine_client.page.content import page_content
from spine_client.result import SpineResult

_PLACE = "/*CONTENT*/null"
"""Where the template takes its data."""


def write_page(result: SpineResult, path: Path) -> None:
    """Write the page: slices to scroll through, structures to switch, measurements, table, provenance.

    It loads nothing from elsewhere, and its content policy forbids that it ever does. Raises `MissingExtra`
    without Pillow.
    """
    template = files("spine_client.page").joinpath("template.html").read_text(encoding="utf-8")
    content = json.dumps(page_content(result), ensure_ascii=False, allow_nan=False)
    path.write_text(template.replace(_PLACE, content.replace("<", "\\u003c")), encoding="utf-8")
