"""Processes that hear Ctrl-C, wherever the tests run."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence


def start_hearing_ctrl_c(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start `command` with its standard error in a pipe; call it from the main thread.

    A shell's background job ignores SIGINT, and would hand that down to its children; a handler of ours is
    not handed down. Not by `preexec_fn`: that forks beside other threads, which may be in gRPC, and aborts.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
