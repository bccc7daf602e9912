"""Writes the image's pinned, hashed requirements, server/requirements-gpu.txt and requirements-cpu.txt.

Versions come from constraints.txt, so the image computes with what was tested; what that file lacks is pinned
in `MORE`. Wheels only, for the Python of NVIDIA's container and for the one that tests run on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONTAINER_PYTHON, TEST_PYTHON = "3.12", "3.11"
COMMON = ("numpy", "scipy", "jsonschema", "tritonclient[grpc]", "prometheus-client", "pydicom")
PROFILES = {"gpu": (*COMMON, "cupy-cuda13x"), "cpu": (*COMMON, "openvino")}
MORE = ("cupy-cuda13x==13.6.0", "prometheus-client==0.26.0")
HEADER = "# Made by scripts/chart_image_requirements.py from constraints.txt, for --require-hashes.\n"


def resolve(packages: tuple[str, ...], python: str, constraints: Path) -> dict[str, Any]:
    """Name → (version, SHA-256 of the wheel) of `packages` and all that they need."""
    options = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-", "--only-binary=:all:"]
    target = ["--target", "unused", "--python-version", python, "--constraint", str(constraints)]
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(17, 40)]
    platforms.append("--platform=manylinux2014_x86_64")
    command = [sys.executable, "-m", "pip", "install", *options, *target, *platforms, *packages]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = {}
    for each in json.loads(done.stdout)["install"]:
        digest = each["download_info"]["archive_info"]["hashes"]["sha256"]
        found[each["metadata"]["name"].lower().replace("_", "-")] = (each["metadata"]["version"], digest)
    return found


def requirements(profile: str, constraints: Path) -> str:
    """The file's text for a profile."""
    tables = [resolve(PROFILES[profile], python, constraints) for python in (CONTAINER_PYTHON, TEST_PYTHON)]
    lines = [HEADER]
    for name in sorted(set().union(*tables)):
        versions = {table[name][0] for table in tables if name in table}
        digests = sorted({table[name][1] for table in tables if name in table})
        if len(versions) != 1:
            raise ValueError(f"{name} resolves to {versions}: pin it in constraints.txt")
        hashes = " \\\n".join(f"    --hash=sha256:{digest}" for digest in digests)
        lines.append(f"{name}=={versions.pop()} \\\n{hashes}\n")
    return "".join(lines)


def main() -> int:
    """Write both files."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write((ROOT / "constraints.txt").read_text() + "\n".join(MORE) + "\n")
        constraints.flush()
        for profile in PROFILES:
            text = requirements(profile, Path(constraints.name))
            (ROOT / "server" / f"requirements-{profile}.txt").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
