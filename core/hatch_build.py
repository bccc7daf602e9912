"""Compiles `_kernels.c` when the wheel or the editable install is made, where there is a C compiler.

$CC names it, `cc` does otherwise. Without one, or where it fails, the package stays pure Python: numpy then
does the same, slower (`spinecore.kernels`).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path("src", "spinecore")
FLAGS = ("-O3", "-shared", "-fPIC", "-ffp-contract=off")


def compile_kernels(source: Path, library: Path) -> str | None:
    """Make `library` from `source`; what went wrong, in one line, or None. An older library never stays."""
    library.unlink(missing_ok=True)
    command = [*shlex.split(os.environ.get("CC") or "cc"), *FLAGS, "-o", str(library), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        return f"{command[0]} does not start ({error.strerror})"
    if done.returncode == 0 and library.is_file():
        return None
    library.unlink(missing_ok=True)
    lines = [line for line in done.stderr.splitlines() if "error" in line] or ["no message"]
    return f"{command[0]} failed ({lines[0].strip()})"


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's hook: the library lies beside the modules, and in the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root) / PACKAGE
        wrong = compile_kernels(folder / "_kernels.c", folder / "_kernels.so")
        if wrong is not None:
            print(f"spineserve-core: not compiled, numpy does it slower: {wrong}", file=sys.stderr)
            return
        build_data["artifacts"].append((PACKAGE / "_kernels.so").as_posix())
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"  # the library knows nothing of Python and its versions
