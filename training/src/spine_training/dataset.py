"""The nnU-Net dataset: which phantom seed becomes what, raw NIfTI files, preprocessed cases.

Case names say their split: ``train_00042`` and ``val_10007`` are phantoms by their seed, ``train_case-…`` a
site's own. Seeds from 900000 on are held out: they belong to the acceptance test and are never drawn here.
"""

from __future__ import annotations

import json
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from spine_training.workspace import PAPER_CONFIGURATION, Workspace
from spinecore.labels import Class

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from spinecore.phantom import Contrast, Phantom, PhantomConfig, Region

TRAINING_SEEDS = range(10_000)
VALIDATION_SEEDS = range(10_000, 20_000)
REGION_WEIGHTS = {"lumbar": 0.37, "cervical": 0.37, "thoracic": 0.22, "none": 0.04}
CONTRAST_WEIGHTS = {"random": 0.25, "t2": 0.35, "t1": 0.3, "fatsat": 0.1}
STENOSIS_SHARE = (0.1, 0.6)  # more than in patients: drawn as rarely, the network smooths them over
BULGE_SHARE = (0.2, 0.6)
SPOILED_SHARE = 0.1  # images with motion, metal or missing signal
DEGENERATED_EVERY = 3
_DEGENERATION, _BULGE, _STENOSIS = 0.8, 0.5, 0.4  # shares of the discs of a degenerated spine
DRAWN_AHEAD = 3
FILE_ENDING = ".nii"
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class SeedError(ValueError):
    """Seeds that do not belong to what they were to be drawn for."""


class SamplesError(ValueError):
    """Kept patches that are not those of this version."""


def training_seeds(first: int, count: int, contrasts: Sequence[Contrast] = ()) -> list[int]:
    """The first `count` training seeds from `first` on, of these contrasts only where some are given."""
    known = TRAINING_SEEDS[first:] if first in TRAINING_SEEDS else ()
    wanted = (seed for seed in known if not contrasts or phantom_config(seed).contrast in contrasts)
    seeds = list(islice(wanted, count))
    if len(seeds) < count or not known:
        asked = f"{count} of contrast {' or '.join(contrasts)}" if contrasts else f"{count}"
        raise SeedError(
            f"training phantoms have seeds 0 to {TRAINING_SEEDS.stop - 1}; got {asked} from {first} on"
        )
    return seeds


def case_name(seed: int) -> str:
    """``train_00042`` or ``val_10007``; SeedError for a seed that belongs to neither."""
    for split, seeds in (("train", TRAINING_SEEDS), ("val", VALIDATION_SEEDS)):
        if seed in seeds:
            return f"{split}_{seed:05d}"
    raise SeedError(f"seed {seed} is neither for training (0-9999) nor for validation (10000-19999)")


def phantom_config(seed: int) -> PhantomConfig:
    """What phantom a seed stands for to the segmentation: region, contrast, narrow canals, flaws."""
    from spinecore.phantom import PhantomConfig

    rng = np.random.default_rng([seed, 201])
    region = rng.choice(list(REGION_WEIGHTS), p=list(REGION_WEIGHTS.values()))
    contrast = rng.choice(list(CONTRAST_WEIGHTS), p=list(CONTRAST_WEIGHTS.values()))
    return PhantomConfig(
        seed=seed,
        region=cast("Region", str(region)),
        contrast=cast("Contrast", str(contrast)),
        stenosis=float(rng.uniform(*STENOSIS_SHARE)),
        bulge=float(rng.uniform(*BULGE_SHARE)),
        spoiled=SPOILED_SHARE,
    )


def usual_phantom_config(seed: int) -> PhantomConfig:
    """The same phantom with narrow canals, bulges and flaws as often as `PhantomConfig` has them by default.

    For what learns or states lengths: a network that minimises squared error leans to the share of narrow
    canals it has seen, where the image leaves a doubt, and is off by that everywhere.
    """
    from spinecore.phantom import PhantomConfig

    usual = PhantomConfig(seed=seed)
    return replace(phantom_config(seed), stenosis=usual.stenosis, bulge=usual.bulge, spoiled=usual.spoiled)


def measured_phantom_config(seed: int) -> PhantomConfig:
    """What phantom a seed stands for to the measurement CNN: as usual, every third one degenerated."""
    usual = usual_phantom_config(seed)
    return degenerated(usual) if seed % DEGENERATED_EVERY == 0 else usual


def degenerated(config: PhantomConfig) -> PhantomConfig:
    """The same spine with most of its discs degenerated and many of them bulging into a narrow canal."""
    return replace(config, disc_degeneration=_DEGENERATION, bulge=_BULGE, stenosis=_STENOSIS)


def draw_phantom(seed: int) -> Phantom:
    """The phantom of a training or validation seed."""
    from spinecore.phantom import make_phantom

    return make_phantom(phantom_config(seed))


def drawn_ahead(configs: Iterable[PhantomConfig]) -> Iterator[Phantom]:
    """The phantoms of `configs` in their order, drawn in a process beside this one, `DRAWN_AHEAD` early."""
    from spinecore.phantom import make_phantom

    waiting: deque[Future[Phantom]] = deque()
    spawn = get_context("spawn")  # engines' threads do not survive a fork
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        for config in configs:
            waiting.append(pool.submit(make_phantom, config))
            if len(waiting) > DRAWN_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def write_phantoms(workspace: Workspace, seeds: Iterable[int]) -> list[str]:
    """Write the phantoms of `seeds` as raw cases, those already there excepted; returns all their names."""
    names = []
    for seed in seeds:
        name = case_name(seed)
        if not (workspace.raw / "labelsTr" / f"{name}{FILE_ENDING}").exists():
            phantom = draw_phantom(seed)
            write_raw_case(workspace, name, phantom.image, phantom.classes, phantom.affine)
        names.append(name)
    return names


def write_raw_case(
    workspace: Workspace,
    name: str,
    image: NDArray[Any],
    classes: NDArray[np.uint8],
    affine: NDArray[np.float64],
) -> None:
    """Write image and class map, both (Z, Y, X) with an LPS `affine` of (x, y, z), as nnU-Net's raw files.

    Each is written aside and moved, the labels last: a case is there when its labels are.
    """
    for folder, suffix, voxels in (("imagesTr", "_0000", image), ("labelsTr", "", classes)):
        target = workspace.raw / folder / f"{name}{suffix}{FILE_ENDING}"
        target.parent.mkdir(parents=True, exist_ok=True)
        data = np.ascontiguousarray(voxels.transpose(2, 1, 0))
        aside = target.with_name(f".{target.name}")
        nib.save(nib.Nifti1Image(data, _LPS_TO_RAS @ affine), aside)  # type: ignore[no-untyped-call]
        aside.replace(target)


def write_dataset_json(workspace: Workspace) -> None:
    """nnU-Net's description of the dataset, counting the raw cases present."""
    content = {
        "name": description(workspace),
        "channel_names": {"0": "MR"},
        "labels": {member.name.lower(): int(member) for member in Class},
        "numTraining": len(raw_cases(workspace)),
        "file_ending": FILE_ENDING,
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
    }
    for folder in (workspace.raw, workspace.preprocessed):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dataset.json").write_text(json.dumps(content, indent=2) + "\n")


def description(workspace: Workspace) -> str:
    """What the dataset is made of, for dataset.json and the exported network."""
    phantoms = sum(_is_phantom(name) for name in raw_cases(workspace))
    own = len(raw_cases(workspace)) - phantoms
    parts = ["procedural spine phantoms"] if phantoms or not own else []
    return "SpineServe " + " and ".join([*parts, *(["labelled pairs of a site"] if own else [])])


def _is_phantom(name: str) -> bool:
    return name.partition("_")[2].isdigit()


def write_splits(workspace: Workspace) -> None:
    """nnU-Net's ``splits_final.json``, for its own commands; our trainer reads the names."""
    cases = raw_cases(workspace)
    split = {kind: [name for name in cases if name.startswith(kind)] for kind in ("train", "val")}
    (workspace.preprocessed / "splits_final.json").write_text(json.dumps([split], indent=1) + "\n")


def raw_cases(workspace: Workspace) -> list[str]:
    """Names of the raw cases present, sorted."""
    return sorted(
        path.name.removesuffix(FILE_ENDING) for path in (workspace.raw / "labelsTr").glob("[!.]*.nii")
    )


def preprocessed_folder(workspace: Workspace) -> Path:
    """Folder of the preprocessed cases, shared by both configurations."""
    plans = json.loads(workspace.plans_file.read_text())
    return workspace.preprocessed / str(plans["configurations"][PAPER_CONFIGURATION]["data_identifier"])


def preprocessed_cases(workspace: Workspace) -> list[str]:
    """Names of the preprocessed cases present, sorted; the properties file is written last."""
    return sorted(path.stem for path in preprocessed_folder(workspace).glob("*.pkl"))


def preprocess_cases(workspace: Workspace, names: Iterable[str]) -> None:
    """Run nnU-Net's own preprocessor on the named raw cases, one after the other."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(json.loads(workspace.plans_file.read_text()))
    configuration = plans.get_configuration(PAPER_CONFIGURATION)
    dataset_json = json.loads((workspace.preprocessed / "dataset.json").read_text())
    preprocessor = configuration.preprocessor_class(verbose=False)
    folder = preprocessed_folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        image = workspace.raw / "imagesTr" / f"{name}_0000{FILE_ENDING}"
        labels = workspace.raw / "labelsTr" / f"{name}{FILE_ENDING}"
        preprocessor.run_case_save(
            str(folder / name), [str(image)], str(labels), plans, configuration, dataset_json
        )
