"""`spine-train data`: phantoms drawn, planned and preprocessed; may run again to add cases at any time."""

from __future__ import annotations

from itertools import zip_longest

from tqdm import tqdm

from spine_training.dataset import (
    TRAINING_SEEDS,
    VALIDATION_SEEDS,
    SeedError,
    preprocess_cases,
    preprocessed_cases,
    write_dataset_json,
    write_phantoms,
    write_splits,
)
from spine_training.plans import NetworkSize, make_plans
from spine_training.workspace import Workspace

PLANNING_CASES = 40


def prepare_data(
    workspace: Workspace, *, training: int, validation: int, first: int = 0, size: NetworkSize | None = None
) -> list[str]:
    """Bring the dataset to `training` phantoms from seed `first` on and `validation` phantoms.

    Returns the names preprocessed now. The plans are made once, from the first cases. A training that is
    running picks new cases up. SeedError for seeds that are not for training.
    """
    if first not in TRAINING_SEEDS or first + training > TRAINING_SEEDS.stop:
        raise SeedError(
            f"training phantoms have seeds 0 to {TRAINING_SEEDS.stop - 1}; got {training} from {first} on"
        )
    workspace.activate()
    seeds = _interleaved(first, training, validation)
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


def _interleaved(first: int, training: int, validation: int) -> list[int]:
    """Seeds of both ranges, validation spread through the beginning."""
    pairs = zip_longest(TRAINING_SEEDS[first : first + training], VALIDATION_SEEDS[:validation])
    return [seed for pair in pairs for seed in pair if seed is not None]
