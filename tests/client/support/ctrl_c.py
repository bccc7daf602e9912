"""Processes that hear Ctrl-C."""

from __future__ import annotations

import signal


def hear_ctrl_c() -> None:
    """For `preexec_fn`: a shell's background job ignores SIGINT, and would hand that down to its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
