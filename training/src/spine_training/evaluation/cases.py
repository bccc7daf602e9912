"""Where cases come from: held-out phantoms, or any folder of image and label pairs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spine_training.dataset import degenerated
from spine_training.evaluation.reference import (
    Reference,
    reference_of_masks,
    reference_of_phantom,
    reference_of_truth,
)
from spine_training.evaluation.scoring import region_of
from spine_training.pairs import LabelTable, Pair, PairError, find_pairs, read_pair
from spine_training.pairs.dataset import table_for
from spinecore.labels import VERTEBRA_NAMES
from spinecore.phantom import Phantom, PhantomConfig, make_phantom
from spinecore.phantom.config import Contrast, Region

FIRST_SEED = 900_000
FIRST_RANDOM_SEED = 950_000
REGIONS: tuple[Region, ...] = ("lumbar", "cervical", "thoracic")
CONTRASTS: tuple[Contrast, ...] = ("t2", "t1")
KINDS = ("isotropic", "thick", "degenerated")
RANDOM = "random"
RANDOM_SHARE = 5  # one further phantom of fully random contrast for so many others
ISOTROPIC_MM = (0.9, 1.2)
THICK_MM = (3.3, 4.4)
IN_PLANE_MM = 0.6


@dataclass(frozen=True, eq=False)
class Case:
    """One image (Z, Y, X) with its affine (4, 4) to LPS mm, and what is true of it.

    groups: what it counts under beside everything, e.g. its region and contrast.
    """

    name: str
    image: NDArray[Any]
    affine: NDArray[np.float64]
    reference: Reference
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseSource:
    """Cases to be made or read one by one; kind ``phantoms`` or ``pairs``. apart: groups not in the whole."""

    kind: str
    loaders: tuple[Callable[[], Case], ...]
    note: str
    apart: tuple[str, ...] = ()


def held_out_config(index: int, *, contrast: Contrast | None = None) -> PhantomConfig:
    """Phantom `index` (0, 1, …) of the held-out set; its seed decides all that the turns do not.

    Regions, contrasts (t2, t1) and kinds take turns: eighteen phantoms show every combination once. With
    ``contrast="random"`` it is one of the further set whose intensities are fully random.
    """
    first = FIRST_RANDOM_SEED if contrast == RANDOM else FIRST_SEED
    rng = np.random.default_rng([first, index])
    turn = index // len(REGIONS)
    kind = KINDS[turn % len(KINDS)]
    thick = kind == "thick" or (kind == "degenerated" and turn // len(KINDS) % 2 == 0)
    side = float(rng.uniform(*ISOTROPIC_MM))
    slices = round(float(rng.uniform(*THICK_MM)), 2)
    usual = PhantomConfig(
        seed=first + index,
        region=REGIONS[index % len(REGIONS)],
        contrast=contrast or CONTRASTS[turn % len(CONTRASTS)],
        spacing_mm=(slices, IN_PLANE_MM, IN_PLANE_MM) if thick else (side, side, side),
        orientation="PIR" if thick else None,
    )
    return degenerated(usual) if kind == "degenerated" else usual


def held_out_kind(index: int) -> str:
    """``isotropic``, ``thick`` or ``degenerated``."""
    return KINDS[index // len(REGIONS) % len(KINDS)]


def held_out_phantoms(count: int, *, random: int) -> CaseSource:
    """`count` phantoms that no training drew, and `random` more of fully random contrast, kept apart."""

    def loader(index: int, contrast: Contrast | None) -> Callable[[], Case]:
        return lambda: phantom_case(index, contrast=contrast)

    loaders = [loader(index, None) for index in range(count)]
    loaders += [loader(index, "random") for index in range(random)]
    note = f"{count} held-out phantoms (seeds from {FIRST_SEED})"
    extra = f", and {random} of fully random contrast (seeds from {FIRST_RANDOM_SEED}), reported apart"
    return CaseSource("phantoms", tuple(loaders), note + (extra if random else ""), (RANDOM,))


def phantom_case(index: int, *, contrast: Contrast | None = None) -> Case:
    """Held-out phantom `index` as a case."""
    config = held_out_config(index, contrast=contrast)
    kind = held_out_kind(index)
    return case_of_phantom(make_phantom(config), kind)


def case_of_phantom(phantom: Phantom, kind: str) -> Case:
    """A phantom with its own truth; `kind` becomes one of its groups."""
    config = phantom.config
    groups = (str(config.region), str(config.contrast), kind)
    name = f"{config.seed} {' '.join(groups)}"
    return Case(name, phantom.image, phantom.affine, reference_of_phantom(phantom), groups)


def pairs_in(folder: Path, *, labels: str = "auto", names: bool = True) -> CaseSource:
    """The pairs of a folder. `names` False: the label numbers tell instances apart, but are no level names.

    A phantom's measurements (``<case>.truth.json``) are used where they lie beside the pair.
    """
    pairs = find_pairs(folder)
    table, why = table_for(folder, pairs, labels)

    def loader(pair: Pair) -> Callable[[], Case]:
        return lambda: case_of_pair(pair, table, names=names)

    return CaseSource("pairs", tuple(loader(pair) for pair in pairs), f"{len(pairs)} pairs; {why}")


def case_of_pair(pair: Pair, table: LabelTable, *, names: bool = True) -> Case:
    """Read one pair as a case."""
    volume = read_pair(pair, table)
    if pair.truth is not None and volume.levels is not None:
        reference = reference_of_truth(volume.levels, _truth(pair.truth))
    else:
        reference = reference_of_masks(volume, names=names)
    region = _region(reference)
    return Case(pair.name, volume.image, volume.affine, reference, (region,) if region else ())


def _truth(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {"vertebrae": content["vertebrae"], "discs": content["discs"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise PairError(f"{path.name} is not a phantom's truth; remove it or write it anew.") from None


def _region(reference: Reference) -> str | None:
    """The region that most of a case's named vertebrae belong to."""
    if not reference.named:
        return None
    names = [VERTEBRA_NAMES.get(level.label) for level in reference.vertebrae]
    regions: Sequence[str] = [r for r in map(region_of, names) if r and r != "sacral"]
    return Counter(regions).most_common(1)[0][0] if regions else None
