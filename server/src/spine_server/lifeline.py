"""No stage outlives its Triton: a pipe that Triton holds, and the kernel tells the stages when it closes.

A stub of the Python backend looks after its Triton from a thread, which waits for Python's lock. Where Triton
is killed while the stub hands it an answer, that lock is held by a call that waits for Triton: the stub stays
for ever, with its network's memory. No thread of Python's helps there, but a signal does that the kernel
sends by itself. (Its own one for this, PR_SET_PDEATHSIG, is about the thread that started the stub, which
Triton ends.)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
from collections.abc import Iterator

VARIABLE = "SPINESERVE_LIFELINE"
"""Environment variable: the two ends of the pipe, as a process that Triton starts inherits them."""


@contextlib.contextmanager
def lifeline() -> Iterator[tuple[tuple[int, int], dict[str, str]]]:
    """The file descriptors for Triton to inherit, and the environment that names them. Start it inside."""
    ends = os.pipe()
    try:
        yield ends, {VARIABLE: " ".join(map(str, ends))}
    finally:
        for end in ends:  # Triton holds them now, and nobody else: the pipe lasts as long as it does
            os.close(end)


def end_with_triton() -> None:
    """Let the kernel kill this process, a stub, when its Triton is gone; call once.

    A Triton that we did not start has no lifeline. It runs in a container, which ends with it.
    """
    if VARIABLE not in os.environ:
        return
    inherited, ours = map(int, os.environ[VARIABLE].split())
    os.close(ours)  # while any process holds this end the pipe is open
    own = os.open(f"/proc/self/fd/{inherited}", os.O_RDONLY | os.O_NONBLOCK)  # told is who has opened it
    os.close(inherited)
    with contextlib.suppress(OSError):  # a kernel that has no such signals
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    poll = select.poll()
    poll.register(own, 0)
    if poll.poll(0):  # hung up before we asked to be told
        os._exit(1)
