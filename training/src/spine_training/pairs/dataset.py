"""`spine-train data --pairs`: a site's pairs as cases of the nnU-Net dataset.

Every pair is read and checked before anything is written, and every file is written aside and moved.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from spine_training.dataset import (
    preprocess_cases,
    preprocessed_cases,
    raw_cases,
    write_dataset_json,
    write_raw_case,
    write_splits,
)
from spine_training.pairs.errors import PairError
from spine_training.pairs.find import Pair, find_pairs
from spine_training.pairs.read import LabelledVolume, label_numbers, read_pair
from spine_training.pairs.tables import LabelTable, choose_table
from spine_training.plans import NetworkSize, make_plans
from spine_training.workspace import Workspace
from spinecore.labels import Class
from spinecore.normalization import window as clip_to_window

Window = tuple[float, float]


@dataclass(frozen=True)
class PairSettings:
    """How pairs become cases.

    labels: a table's name, a JSON file or ``auto``. window: centre and width to which intensities are
    clipped, in the images' own units; None leaves them. validation_share: of the subjects, at least one.
    seed: draws who validates. size: of patch and network, for the plans.
    """

    labels: str = "auto"
    window: Window | None = None
    validation_share: float = 0.2
    seed: int = 1
    size: NetworkSize = field(default_factory=NetworkSize)


def table_for(folder: Path, pairs: Sequence[Pair], labels: str) -> tuple[LabelTable, str]:
    """The label table of a folder of pairs, and a sentence on why it is that one."""
    described = folder / "dataset.json"
    return choose_table(labels, label_numbers(pairs), dataset_json=described if described.is_file() else None)


def prepare_pairs(workspace: Workspace, folder: Path, settings: PairSettings) -> list[str]:
    """Bring all pairs of `folder` into the dataset; returns the names preprocessed now.

    Cases already there stay as they are, so this goes on where it was stopped, and adds pairs that are new.
    """
    pairs = find_pairs(folder)
    table, why = table_for(folder, pairs, settings.labels)
    print(f"{len(pairs)} pairs; {why}")
    _check_window(workspace, settings.window)
    workspace.activate()
    splits = split_of_pairs(workspace, pairs, settings)
    known = set(raw_cases(workspace))
    new = [pair for pair in pairs if _case(pair, splits[pair.name]) not in known]
    _check_all(new, table)
    for pair in tqdm(new, desc="raw cases", unit="case", disable=not new):
        volume = read_pair(pair, table)
        image = _windowed(volume, settings.window)
        write_raw_case(workspace, _case(pair, splits[pair.name]), image, volume.classes, volume.affine)
    _remember(workspace, settings.window)
    return _preprocessed(workspace, settings.size)


def split_of_pairs(workspace: Workspace, pairs: Sequence[Pair], settings: PairSettings) -> dict[str, str]:
    """``train`` or ``val`` by pair name. A subject stays where it is; new ones are drawn by the seed."""
    known = set(raw_cases(workspace))
    by_subject: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_subject[pair.subject].append(pair)
    split: dict[str, str] = {}
    for subject, members in by_subject.items():
        there = [s for s in ("train", "val") if any(_case(pair, s) in known for pair in members)]
        if there:
            split[subject] = there[0]
    fresh = sorted(by_subject.keys() - split.keys())
    order = np.random.default_rng(settings.seed).permutation(len(fresh))
    wanted = max(1, round(settings.validation_share * len(by_subject)))
    missing = wanted - sum(s == "val" for s in split.values())
    for place, index in enumerate(order):
        split[fresh[index]] = "val" if place < missing else "train"
    if "train" not in split.values():
        raise PairError("At least two subjects are needed, one of them for validation.")
    return {pair.name: split[pair.subject] for pair in pairs}


def _case(pair: Pair, split: str) -> str:
    return f"{split}_case-{pair.name}"


def _check_all(pairs: Sequence[Pair], table: LabelTable) -> None:
    """Read every pair; says what the dataset lacks."""
    seen: set[int] = set()
    for pair in tqdm(pairs, desc="checking", unit="pair", disable=not pairs):
        seen |= set(np.unique(read_pair(pair, table).classes).tolist())
    lacking = [cls.name.lower() for cls in Class if cls not in seen]
    if pairs and lacking:
        print(f"note: no pair shows {', '.join(lacking)}; the network cannot learn what it never sees")
    blind = [p for p in pairs if p.instances is None]
    if blind and table.name == "spineps" and "c2" in lacking:
        print("note: SPINEPS structures alone call C2 a body; put the seg-vert masks beside them to tell it")


def _windowed(volume: LabelledVolume, window: Window | None) -> NDArray[Any]:
    if window is None:
        return volume.image
    image = volume.image.astype(np.float32)
    clip_to_window(image, center=window[0], width=window[1])
    return image


def _check_window(workspace: Workspace, window: Window | None) -> None:
    known = workspace.settings_file
    if not known.exists():
        if raw_cases(workspace) and window is not None:
            raise PairError(f"{workspace.root} holds cases without a window; choose another --work folder.")
        return
    before = json.loads(known.read_text())["window"]
    if before != (None if window is None else list(window)):
        raise PairError(
            f"{workspace.root} was made with window {before}, not {window}; choose another --work folder."
        )


def _remember(workspace: Workspace, window: Window | None) -> None:
    workspace.settings_file.write_text(json.dumps({"window": window}) + "\n")


def _preprocessed(workspace: Workspace, size: NetworkSize) -> list[str]:
    write_dataset_json(workspace)
    if not workspace.plans_file.exists():
        make_plans(workspace, size)
    write_splits(workspace)
    done = set(preprocessed_cases(workspace))
    todo = [name for name in raw_cases(workspace) if name not in done]
    for name in tqdm(todo, desc="preprocessing", unit="case", disable=not todo):
        preprocess_cases(workspace, [name])
    return todo
