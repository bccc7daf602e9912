"""Writes the images' pinned, hashed requirements: server/requirements-common.txt, -gpu.txt and -cpu.txt.

Versions come from constraints.txt, so the images compute with what was tested; what that file lacks is pinned
in `MORE`. Each file is closed: all that its packages need is in it or in the common one. Wheels only, for the
Python of NVIDIA's container and for the one that tests run on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONTAINER_PYTHON, TEST_PYTHON = "3.12", "3.11"
COMMON = (
    "numpy", "scipy", "jsonschema", "tritonclient[grpc]", "prometheus-client", "pydicom",
    "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http",  # traces, off by default
)  # fmt: skip
EXTRA = {"gpu": ("cupy-cuda13x", "onnx", "tensorrt-cu13-bindings"), "cpu": ("openvino",)}
MORE = (
    "cupy-cuda13x==13.6.0",
    # Python's side of the TensorRT libraries in NVIDIA's container, so of the very same version. On PyPI are
    # the bindings alone; the libraries are not wanted, and would come from elsewhere.
    "tensorrt-cu13-bindings==11.0.0.114",
)
HEADER = "# Made by scripts/chart_image_requirements.py from constraints.txt, for --require-hashes.\n"


Pins = dict[str, tuple[str, frozenset[str]]]
"""Name -> (version, SHA-256 of every wheel that may be installed)."""


def resolve(packages: tuple[str, ...], python: str, constraints: Path) -> dict[str, tuple[str, str]]:
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


def pins(packages: tuple[str, ...], constraints: Path) -> Pins:
    """`packages` and all that they need, for both Pythons.

    ValueError where the two would get different versions.
    """
    tables = [resolve(packages, python, constraints) for python in (CONTAINER_PYTHON, TEST_PYTHON)]
    both: Pins = {}
    for name in sorted(set().union(*tables)):
        versions = {table[name][0] for table in tables if name in table}
        if len(versions) != 1:
            raise ValueError(f"{name} resolves to {versions}: pin it in constraints.txt")
        digests = frozenset(table[name][1] for table in tables if name in table)
        both[name] = (versions.pop(), digests)
    return both


def requirements(found: Pins) -> str:
    """A requirements file's text."""
    lines = [HEADER]
    for name, (version, digests) in found.items():
        hashes = " \\\n".join(f"    --hash=sha256:{digest}" for digest in sorted(digests))
        lines.append(f"{name}=={version} \\\n{hashes}\n")
    return "".join(lines)


def main() -> int:
    """Write all three files."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write((ROOT / "constraints.txt").read_text() + "\n".join(MORE) + "\n")
        file.flush()
        common = pins(COMMON, Path(file.name))
        found = {profile: pins((*COMMON, *extra), Path(file.name)) for profile, extra in EXTRA.items()}
    alone = {
        profile: {name: pin for name, pin in closed.items() if name not in common}
        for profile, closed in found.items()
    }
    for name, content in {"common": common, **alone}.items():
        (ROOT / "server" / f"requirements-{name}.txt").write_text(requirements(content), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
