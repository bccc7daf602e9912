"""`spine-train data`: phantoms drawn, planned and preprocessed; may run again to add cases at any time."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from tqdm import tqdm

from spine_training.dataset import (
    VALIDATION_SEEDS,
    preprocess_cases,
    preprocessed_cases,
    training_seeds,
    write_dataset_json,
    write_phantoms,
    write_splits,
)
from spine_training.plans import NetworkSize, make_plans
from spine_training.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spinecore.phantom import Contrast

PLANNING_CASES = 40


def prepare_data(
    workspace: Workspace,
    *,
    training: int,
    validation: int,
    first: int = 0,
    contrasts: Sequence[Contrast] = (),
    size: NetworkSize | None = None,
) -> list[str]:
    """Bring the dataset to `training` phantoms from seed `first` on and `validation` phantoms.

    With `contrasts`, training seeds of any other are passed over, so that these get more weight.

    Returns the names preprocessed now. The plans are made once, from the first cases. A training that is
    running picks new cases up. SeedError for seeds that are not for training.
    """
    seeds = _interleaved(training_seeds(first, training, contrasts), VALIDATION_SEEDS[:validation])
    workspace.activate()
    if not workspace.plans_file.exists():
        write_phantoms(workspace, seeds[:PLANNING_CASES])
        write_dataset_json(workspace)
        make_plans(workspace, size)
    done = set(preprocessed_cases(workspace))
    added = []
    for seed in tqdm(seeds, desc="phantoms", unit="case"):
        for name in write_phantoms(workspace, [seed]):
            if name not in done:
                preprocess_cases(workspace, [name])
                added.append(name)
    write_dataset_json(workspace)
    write_splits(workspace)
    return added


def _interleaved(training: Sequence[int], validation: Sequence[int]) -> list[int]:
    """Seeds of both, validation spread through the beginning."""
    return [seed for pair in zip_longest(training, validation) for seed in pair if seed is not None]
