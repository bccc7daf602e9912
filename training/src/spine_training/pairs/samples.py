"""A site's pairs as samples for the measurement CNN.

Discs are cut from the reference masks exactly as the server cuts them from predicted ones. What the CNN is to
say about them is, for a site's own images, the geometric method's answer on those masks: nobody measured them
otherwise. Where a phantom's truth lies beside the pair, that counts instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from spine_training.evaluation.cases import case_of_pair
from spine_training.evaluation.reference import (
    CANAL_AP,
    FROM_MASKS,
    HEIGHTS,
    Reference,
    Values,
    report_values,
)
from spine_training.evaluation.scoring import joint_counts, main_overlap
from spine_training.measurement.samples import Samples
from spine_training.pairs.dataset import PairSettings, split_of_pairs, table_for
from spine_training.pairs.errors import PairError
from spine_training.pairs.find import Pair, find_pairs
from spine_training.pairs.read import read_pair
from spine_training.pairs.tables import LabelTable
from spine_training.workspace import Workspace
from spinecore.findings import Findings, identify
from spinecore.geometry import Volume

FloatArray = NDArray[np.float32]
TARGETS = (*HEIGHTS, CANAL_AP)  # in the order of `measurement.network.TARGETS`


def samples_of_folder(workspace: Workspace, folder: Path, settings: PairSettings) -> tuple[Samples, Samples]:
    """Samples for training and for validation, the subjects divided as `spine-train data` divided them."""
    pairs = find_pairs(folder)
    table, why = table_for(folder, pairs, settings.labels)
    print(f"{len(pairs)} pairs; {why}")
    split = split_of_pairs(workspace, pairs, settings)
    return (
        _samples([p for p in pairs if split[p.name] == "train"], table, "training"),
        _samples([p for p in pairs if split[p.name] == "val"], table, "validation"),
    )


def _samples(pairs: Sequence[Pair], table: LabelTable, name: str) -> Samples:
    cut = [
        sample
        for pair in tqdm(pairs, desc=f"{name} discs", unit="case")
        for sample in samples_of(pair, table)
    ]
    if not cut:
        raise PairError(f"No pair for {name} shows a disc that lies wholly in view and can be measured.")
    return Samples.from_patches([patch for patch, _ in cut], [target for _, target in cut])


def samples_of(pair: Pair, table: LabelTable) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Patches (8, 64, 64, 32) and target (5,) mm of every disc of a pair that has all its lengths."""
    volume = read_pair(pair, table)
    reference = case_of_pair(pair, table).reference
    found = identify(volume.classes, Volume(np.asarray(volume.image)[None], volume.affine))
    for patch, entry in zip(found.patches, found.document["discs"], strict=False):
        values = _lengths(entry, found, reference) if entry["complete"] else {}
        wanted = [values.get(quantity) for quantity in TARGETS]
        if None not in wanted:
            yield patch, np.array(wanted, dtype=np.float32)


def _lengths(entry: Mapping[str, Any], found: Findings, reference: Reference) -> Values:
    """The reference's lengths of the disc that was found as `entry`, else its own by geometry."""
    if reference.source == FROM_MASKS:
        return report_values(entry, "geometric")
    true = {disc.label: disc for disc in reference.discs if disc.complete}
    joint = joint_counts(reference, found.labels)
    really = main_overlap(joint[:, entry["label"]], true)
    return {} if really is None else true[really].values
