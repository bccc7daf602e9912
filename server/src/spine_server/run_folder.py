"""Lays out what Triton reads at start, in a folder of its own that goes when the server stops.

The wheel keeps the Python backend and its stubs apart, and a Python-based backend must stand beside them, so
the few files (3 MB) are copied: the stub looks for its neighbours from where it lies, and links confuse it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from spine_server.distribution import TritonDistribution

BACKENDS = Path(__file__).parent / "backends"


def available_backends(distribution: TritonDistribution) -> frozenset[str]:
    """Names of the backends that Triton will find."""
    if distribution.backends is not None:
        return frozenset(path.name for path in distribution.backends.iterdir())
    return frozenset({distribution.python_backend.name, *(path.name for path in _own_backends())})


def _own_backends() -> list[Path]:
    return [path for path in BACKENDS.iterdir() if (path / "model.py").is_file()]


def lay_out_backends(folder: Path, distribution: TritonDistribution) -> Path:
    """Copy the Python backend, its stub and our own backends into `folder`; the backend directory.

    A Triton that is installed whole has its own, and nothing is copied.
    """
    if distribution.backends is not None:
        return distribution.backends
    backends = folder / "backends"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(distribution.python_backend, backends / "python", ignore=ignore)
    shutil.copy2(distribution.stub, backends / "python")
    for backend in _own_backends():
        shutil.copytree(backend, backends / backend.name, ignore=ignore)
    return backends
