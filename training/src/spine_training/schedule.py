"""How long a training lasts, and where in it we are: by iterations or by the clock.

nnU-Net's polynomial decay needs the whole length. On a machine shared with other work the number of
iterations that fit into an evening is not known beforehand, so the length may also be given in seconds.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

ENV_PREFIX = "SPINE_TRAIN_"
EPOCHS_ENV = "SPINE_TRAIN_EPOCHS"
ITERATIONS_ENV = "SPINE_TRAIN_ITERATIONS_PER_EPOCH"
BUDGET_ENV = "SPINE_TRAIN_BUDGET_S"
WARM_UP_ENV = "SPINE_TRAIN_WARM_UP"
POLY_EXPONENT = 0.9
DEFAULT_EPOCHS = 1000
DEFAULT_ITERATIONS_PER_EPOCH = 250


@dataclass
class Schedule:
    """Length of a training. With `budget_s` the clock decides and `epochs` is only an upper bound.

    For the first `warm_up` share the patches are smaller: half of each side, then three quarters.
    On a CPU that gives several times the iterations, with more of the rare classes in each patch, while the
    network still learns the coarse things. 0 leaves this out.

    `smallest_quarters` is the size to begin with: a network that is not new can do without halves.

    `spent_s` is the time used before this process (a resumed training), `spent_iterations` likewise.
    """

    epochs: int = DEFAULT_EPOCHS
    iterations_per_epoch: int = DEFAULT_ITERATIONS_PER_EPOCH
    budget_s: float | None = None
    warm_up: float = 0.0
    smallest_quarters: int = 2
    spent_s: float = 0.0
    spent_iterations: int = 0
    _started: float | None = None

    @classmethod
    def from_environment(cls) -> Schedule:
        """Length from SPINE_TRAIN_EPOCHS, …ITERATIONS_PER_EPOCH, …BUDGET_S and …WARM_UP."""
        budget = os.environ.get(BUDGET_ENV)
        return cls(
            epochs=int(os.environ.get(EPOCHS_ENV, DEFAULT_EPOCHS)),
            iterations_per_epoch=int(os.environ.get(ITERATIONS_ENV, DEFAULT_ITERATIONS_PER_EPOCH)),
            budget_s=float(budget) if budget else None,
            warm_up=float(os.environ.get(WARM_UP_ENV, 0.0)),
        )

    def start(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds of training so far, those of earlier processes included."""
        return self.spent_s + (0.0 if self._started is None else time.monotonic() - self._started)

    def progress(self) -> float:
        """Share of the training done, 0 to 1."""
        if self.budget_s is not None:
            return min(1.0, self.elapsed_s() / self.budget_s)
        return min(1.0, self.spent_iterations / (self.epochs * self.iterations_per_epoch))

    def patch_quarters(self) -> int:
        """Size of the training patches now, in quarters of each side of the plans' patch."""
        progress = self.progress()
        if progress < self.warm_up / 2:
            return self.smallest_quarters
        return 3 if progress < self.warm_up else 4

    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.progress() >= 1.0

    def learning_rate(self, initial: float) -> float:
        """nnU-Net's polynomial decay: initial * (1 - progress) ** 0.9."""
        return float(initial * (1.0 - self.progress()) ** POLY_EXPONENT)
