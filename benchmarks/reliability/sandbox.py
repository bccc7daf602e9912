"""A network and mount namespace of our own: faults in it reach nothing else on the machine.

In it, nftables drops packets of a replica's port (loss, cut), and each replica has a small ``/dev/shm`` and a
small file system for its log. Needs root or unprivileged user namespaces; else those faults are left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

_MARK = "SPINESERVE_SANDBOX"
_TABLE = "spineserve"


def enter() -> bool:
    """Start this program again inside new namespaces; False where the machine does not allow them."""
    if _MARK in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return True
    flags = ["--net", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        flags.append("--map-root-user")
    if shutil.which("unshare") is None or subprocess.run(["unshare", *flags, "true"], check=False).returncode:
        return False
    module = sys.modules["__main__"].__spec__
    assert module is not None
    name = module.name.removesuffix(".__main__")
    command = ["unshare", *flags, sys.executable, "-m", name, *sys.argv[1:]]
    os.execvpe("unshare", command, {**os.environ, _MARK: "1"})
    raise AssertionError  # exec does not return


def inside() -> bool:
    """Whether `enter` has done its work."""
    return _MARK in os.environ


def drop(ports: Sequence[int], percent: int) -> None:
    """Drop `percent` of the packets from and to some ports, chosen at random; 0 stops that."""
    _nft("add", "table", "inet", _TABLE)
    _nft("flush", "table", "inet", _TABLE)
    if percent == 0:
        return
    hook = "{ type filter hook input priority 0; }"
    _nft("add", "chain", "inet", _TABLE, "faults", hook)
    wanted = ",".join(map(str, ports))
    chosen = [] if percent >= 100 else ["numgen", "random", "mod", "100", "<", str(percent)]
    for side in ("sport", "dport"):
        _nft("add", "rule", "inet", _TABLE, "faults", "tcp", side, f"{{{wanted}}}", *chosen, "drop")


def has_nft() -> bool:
    """Whether packets can be dropped here."""
    return inside() and shutil.which("nft") is not None


def _nft(*words: str) -> None:
    subprocess.run(["nft", *words], check=True)
