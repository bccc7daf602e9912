"""provenance.json: what exactly made the weights beside it.

Versions of the packages that matter, hashes of our source, of the dataset and of the files of the run, and
the settings. Case names stay out of it, since weights travel: the dataset is counted and hashed.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spine_training.dataset import raw_cases
from spine_training.workspace import Workspace

NAME = "provenance.json"
PACKAGES = (
    "spineserve-core", "spineserve-training", "spineserve-export", "torch", "nnunetv2", "batchgenerators",
    "batchgeneratorsv2", "dynamic_network_architectures", "acvl_utils", "numpy", "scipy", "scikit-image",
    "nibabel", "openvino", "onnx",
)  # fmt: skip
_BLOCK = 1 << 20


def write_provenance(
    target: Path,
    *,
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
    workspace: Workspace | None = None,
) -> Path:
    """Write `target`: `files` by name with their SHA-256, settings, versions, the workspace's dataset."""
    content = {
        "written": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        "python": platform.python_version(),
        "packages": _versions(),
        "source_sha256": source_sha256(),
        "device": _device(),
        "settings": dict(settings),
        "files": {name: sha256(path) for name, path in files.items() if path.is_file()},
        "dataset": None if workspace is None else _dataset(workspace),
    }
    aside = target.with_name(f".{target.name}")
    aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return aside.replace(target)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def source_sha256() -> str:
    """One SHA-256 over the Python files of `spine_training` and `spinecore`."""
    import spinecore

    folders = (Path(__file__).parent, Path(spinecore.__file__).parent)
    return _combined(path for folder in folders for path in sorted(folder.rglob("*.py")))


def _combined(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.backends.cpu.get_cpu_capability()}"


def _dataset(workspace: Workspace) -> dict[str, Any]:
    names = raw_cases(workspace)
    files = [
        path for folder in ("imagesTr", "labelsTr") for path in sorted((workspace.raw / folder).glob("[!.]*"))
    ]
    return {
        "training_cases": sum(name.startswith("train") for name in names),
        "validation_cases": sum(name.startswith("val") for name in names),
        "sha256": _combined(files),
    }
