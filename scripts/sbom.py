"""Writes a bill of materials (CycloneDX 1.6) for each image: what is in it, with versions and hashes.

    .venv/bin/python scripts/sbom.py --out out/sbom

The pinned requirements and their wheels' hashes come from server/requirements-*.txt, our distributions from
their pyproject.toml, the networks from the model repository. What NVIDIA's base image brings is in NVIDIA's
own list.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ("cpu", "gpu")
OURS = ("core", "server", "client")


def main() -> int:
    """Write both files. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "sbom", metavar="DIR")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        text = json.dumps(bill(image), indent=1) + "\n"
        if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
            print(f"sbom: {image} is no valid CycloneDX: {error}", file=sys.stderr)
            return 1
        path = folder / f"spineserve-{image}.cdx.json"
        path.write_text(text, "utf-8")
        print(f"{path}: {len(json.loads(text)['components'])} components")
    return 0


def bill(image: str) -> dict[str, Any]:
    """The whole document for an image: requirements, our distributions, networks."""
    parts = [ROOT / "server" / f"requirements-{name}.txt" for name in ("common", image)]
    document = _of_requirements("".join(part.read_text("utf-8") for part in parts))
    version = _project("server")["version"]
    document["metadata"]["component"] = {
        "type": "container",
        "bom-ref": f"spineserve-{image}",
        "name": f"spineserve/server ({image})",
        "version": version,
    }
    document["components"] += [_distribution(name) for name in OURS] + _networks()
    document.pop("dependencies", None)
    return document


def _of_requirements(text: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _project(folder: str) -> dict[str, Any]:
    content = tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))
    project: dict[str, Any] = content["project"]
    return project


def _distribution(folder: str) -> dict[str, Any]:
    project = _project(folder)
    return {
        "type": "library",
        "bom-ref": project["name"],
        "name": project["name"],
        "version": project["version"],
        "licenses": [{"license": {"id": project["license"]}}],
        "purl": f"pkg:pypi/{project['name']}@{project['version']}",
    }


def _networks() -> list[dict[str, Any]]:
    found = []
    for path in sorted((ROOT / "model_repository").glob("*/1/*.onnx")):
        name = path.parts[-3]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(
            {
                "type": "machine-learning-model",
                "bom-ref": f"model/{name}",
                "name": name,
                "version": "1",
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        )
    return found


if __name__ == "__main__":
    raise SystemExit(main())
