"""A progress bar over a training that keeps its own time: it looks at the schedule now and then."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from spine_training.schedule import Schedule

_LOOK_S, _LOOK_IN_A_LOG_S = 0.5, 30.0
_STEPS = 1000


@contextmanager
def progress_bar(schedule: Schedule, name: str) -> Iterator[None]:
    """Show how much of `schedule` is done (per mille of its length) and its iterations, inside the block."""
    over = threading.Event()
    bar = tqdm(
        total=_STEPS, desc=name, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}", dynamic_ncols=True
    )

    def look() -> None:
        bar.n = int(_STEPS * schedule.progress())
        bar.set_postfix_str(f"{schedule.spent_iterations} iterations")

    def watch() -> None:
        while not over.wait(_LOOK_S if sys.stderr.isatty() else _LOOK_IN_A_LOG_S):
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        look()
        bar.close()
