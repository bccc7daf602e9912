"""`make docs`: every public name is in the reference, with words."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spine_client

pytest.importorskip("pdoc", reason="pdoc is not installed")
_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    command = [
        sys.executable,
        "-W",
        "error",
        str(_ROOT / "scripts" / "api_reference.py"),
        "--out",
        str(folder),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder


def test_every_public_name_and_method_is_there(pages: Path) -> None:
    there = set(re.findall(r'id="([\w.]+)"', (pages / "spine_client.html").read_text()))
    assert set(spine_client.__all__) <= there
    for client in ("SpineClient", "AsyncSpineClient"):
        for method in ("analyze", "analyze_many", "segment", "health", "with_options", "close"):
            assert f"{client}.{method}" in there
    assert {"SpineResult.to_frame", "SpineResult.save", "Disc.height_mm", "RetryPolicy.max_attempts"} <= there


def test_every_public_name_and_method_has_words_of_its_own() -> None:
    for name in spine_client.__all__:
        public = getattr(spine_client, name)
        assert public.__doc__ and not public.__doc__.startswith(f"{name}("), name
        for member_name, member in vars(public).items():
            if not member_name.startswith("_") and (
                inspect.isfunction(member) or isinstance(member, property)
            ):
                assert member.__doc__, f"{name}.{member_name}"


def test_pages_hold_no_path_of_this_machine_and_need_nothing_from_elsewhere(pages: Path) -> None:
    for page in pages.rglob("*.html"):
        text = page.read_text()
        assert str(_ROOT) not in text
        assert not re.search(r'(src|href)="https?://(?!pdoc.dev)', text)
