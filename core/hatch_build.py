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
    """Make `library` from `source`; None, or what went wrong, and then no older library stays."""
    aside = library.with_suffix(f".{os.getpid()}.so")  # whoever starts meanwhile finds the older one, whole
    command = [*shlex.split(os.environ.get("CC") or "cc"), *FLAGS, "-o", str(aside), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0 and aside.is_file():
            aside.replace(library)
            return None
    except OSError as error:
        wrong = f"does not start ({error.strerror})"
    else:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or ["no message"]
        wrong = f"failed ({lines[0].strip()})"
    for each in (aside, library):
        each.unlink(missing_ok=True)
    return f"{command[0]} {wrong}"


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
