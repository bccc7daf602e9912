"""Finds the Triton in the nvidia-pytriton wheel, or one installed whole (NVIDIA's container has that), and
the libpython its Python stub must load.

The wheel holds a plain `tritonserver` with the Python backend, and one stub per Python version. The stub is
linked against ``libpython3.X.so.1.0``. A virtual environment made from a shared build outside the system's
folders (pyenv, conda, uv) has its own: if the loader is not pointed there, the stub silently runs on the
system's Python.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from spine_server.errors import PreconditionError

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{PYTHON_VERSION}.so.1.0"


@dataclass(frozen=True)
class TritonDistribution:
    """Where the parts of a Triton are."""

    executable: Path
    python_backend: Path
    stub: Path
    libraries: Path
    backends: Path | None = None
    """Backend directory of a Triton that is installed whole; None where one has to be laid out."""

    def library_path(self) -> str:
        """Value of LD_LIBRARY_PATH under which every part of Triton finds its libraries."""
        folders = [str(self.libraries)]
        if (libpython := libpython_folder()) is not None:
            folders.append(str(libpython))
        if inherited := os.environ.get("LD_LIBRARY_PATH"):
            folders.append(inherited)
        return ":".join(folders)

    def binaries(self) -> tuple[Path, ...]:
        """All that the dynamic loader must be able to load."""
        return (self.executable, self.python_backend / "libtriton_python.so", self.stub)


def find_distribution(installed: Path | None = None) -> TritonDistribution:
    """The Triton under `installed`, or the wheel's for the Python that runs this.

    Raises
    ------
    PreconditionError
        There is no whole Triton, or it has no stub for this Python version.
    """
    if installed is None:
        return _in_wheel()
    backends = installed / "backends"
    found = TritonDistribution(
        executable=installed / "bin" / "tritonserver",
        python_backend=backends / "python",
        stub=backends / "python" / "triton_python_backend_stub",
        libraries=installed / "lib",
        backends=backends,
    )
    if missing := [str(path) for path in found.binaries() if not path.is_file()]:
        raise PreconditionError([f"There is no whole Triton in {installed}: {', '.join(missing)} missing."])
    return found


def _in_wheel() -> TritonDistribution:
    from pytriton.utils import distribution as wheel  # NVIDIA's container is without it

    root = wheel.get_root_module_path() / "tritonserver"
    # Not wheel.get_libs_path(): it takes a package outside the interpreter's own site-packages for an
    # editable one.
    found = TritonDistribution(
        executable=root / "bin" / "tritonserver",
        python_backend=root / "backends" / "python",
        stub=wheel.get_stub_path(PYTHON_VERSION),
        libraries=root.parents[1] / "nvidia_pytriton.libs",
    )
    if not found.stub.is_file():
        raise PreconditionError(
            [f"nvidia-pytriton has no Python stub for Python {PYTHON_VERSION}; use 3.10 to 3.13."]
        )
    missing = [path.name for path in found.binaries() if not path.is_file()]
    if missing:
        raise PreconditionError([f"nvidia-pytriton is damaged ({', '.join(missing)} missing); reinstall it."])
    return found


def libpython_folder() -> Path | None:
    """The folder of this interpreter's own libpython, or None where only the system's loader can know.

    None is also the answer for an interpreter that was built without a shared libpython; the system's, of the
    same version, then serves as well, since the stub finds the environment's packages by PATH.
    """
    variables = sysconfig.get_config_vars()
    libdir = Path(str(variables.get("LIBDIR") or sys.base_prefix + "/lib"))
    candidates = (libdir, libdir / str(variables.get("MULTIARCH") or ""), Path(sys.base_prefix) / "lib")
    return next((folder for folder in candidates if (folder / LIBPYTHON).is_file()), None)


def interpreter_folder() -> Path:
    """The folder of the running interpreter, unresolved: by it the stub knows a virtual environment."""
    return Path(sys.executable).absolute().parent
