"""Pinned versions, pinned hashes, and a bill of materials that names them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("common", "cpu", "gpu")


def pins(kind: str) -> dict[str, tuple[str, list[str]]]:
    """Requirement -> version and SHA-256 hashes of an image's requirements file."""
    text = (ROOT / "server" / f"requirements-{kind}.txt").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = {}
    for line in lines:
        match = re.match(r"([A-Za-z0-9._-]+)==(\S+)\s", line)
        assert match, f"not pinned: {line[:60]}"
        found[match[1].lower().replace("_", "-")] = (
            match[2],
            re.findall(r"--hash=sha256:([0-9a-f]{64})", line),
        )
    return found


@pytest.mark.parametrize("kind", FILES)
def test_every_requirement_is_pinned_with_its_hashes_and_as_tested(kind: str) -> None:
    tested = {
        name.lower().replace("_", "-"): version
        for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    }
    assert pins(kind)
    for name, (version, hashes) in pins(kind).items():
        assert hashes, f"{name} has no hash"
        assert tested.get(name, version) == version, f"{name} is not the version of constraints.txt"


def test_the_image_takes_nothing_without_a_hash() -> None:
    text = (ROOT / "server" / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert installs
    for line in installs:
        for command in re.findall(r"pip install[^&]*", line):
            assert "--require-hashes" in command or "--no-index" in command, command


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make sbom` writes; it validates itself."""
    folder = tmp_path_factory.mktemp("sbom")
    subprocess.run([sys.executable, ROOT / "scripts" / "sbom.py", "--out", folder], check=True)
    return folder


@pytest.mark.parametrize("image", ["cpu", "gpu"])
def test_the_bill_names_every_requirement_with_its_hash_and_every_network(bills: Path, image: str) -> None:
    document = json.loads((bills / f"spineserve-{image}.cdx.json").read_text("utf-8"))
    assert document["bomFormat"] == "CycloneDX"
    components = {each["name"].lower(): each for each in document["components"]}
    for name, (version, hashes) in {**pins("common"), **pins(image)}.items():
        assert components[name]["version"] == version
        told = [h["content"] for ref in components[name]["externalReferences"] for h in ref.get("hashes", [])]
        assert set(hashes) <= set(told)
    for path in (ROOT / "model_repository").glob("*/1/*.onnx"):
        (digest,) = components[path.parts[-3]]["hashes"]
        assert digest["content"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {"spineserve-core", "spineserve-server", "spineserve-client"} <= components.keys()
