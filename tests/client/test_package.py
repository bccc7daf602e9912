"""The distribution: light, self-contained, and with the public names it promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import spine_client

_CLIENT = Path(__file__).resolve().parents[2] / "client"


def test_public_names() -> None:
    assert sorted(spine_client.__all__) == [
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
    for name in spine_client.__all__:
        assert getattr(spine_client, name) is not None


def test_import_is_quick_and_brings_nothing_heavy() -> None:
    code = (
        "import sys, time; start = time.process_time(); import spine_client; "
        "print(time.process_time() - start, *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    seconds, *modules = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert float(seconds) < 0.5
    heavy = {"torch", "scipy", "matplotlib", "highdicom", "nibabel", "rich", "pandas", "grpc", "pydicom"}
    assert not heavy & set(modules)


def test_importing_the_client_brings_no_heavy_package() -> None:
    code = (
        "import sys; from spine_client import SpineClient; import spine_client.dicom; "
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    modules = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"torch", "scipy", "matplotlib", "highdicom", "nibabel", "pandas"} & set(modules)


def test_no_server_code_is_imported() -> None:
    for path in (_CLIENT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith(("spinecore", "spine_server")) for name in names), path


def test_wheel_holds_the_client_only(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=_CLIENT, check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"spine_client", f"spineserve_client-{spine_client.__version__}.dist-info"}
    assert {"spine_client/py.typed", "spine_client/page/template.html"} <= set(names)


def test_every_test_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (_CLIENT / "README.md").read_text()))
    tests = Path(__file__).parents[1]
    sources = "".join(
        path.read_text() for part in ("client", "pacs") for path in (tests / part).glob("test_*.py")
    )
    assert len(named) > 20
    assert {name for name in named if f"def {name}(" not in sources} == set()
