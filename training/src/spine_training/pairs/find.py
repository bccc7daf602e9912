"""Finding the pairs in a folder, by the names files go by.

Understood are nnU-Net's raw folders (``imagesTr/case_0000.nii.gz`` with ``labelsTr/case.nii.gz``), folders
``images/`` and ``labels/`` with equal names, one folder per case (``image.nii.gz`` beside ``labels.nii.gz``),
names such as ``case.nii.gz`` with ``case_seg.nii.gz``, and BIDS as SPINEPS and TPTBox write it
(``sub-1_T2w.nii.gz`` with ``sub-1_seg-subreg_msk.nii.gz`` and ``sub-1_seg-vert_msk.nii.gz``).
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from spine_training.pairs.errors import PairError

ENDINGS = (".nii.gz", ".nii")
MASK_WORDS = ("seg", "dseg", "msk", "mask", "label", "labels", "segmentation")
STRUCTURES, INSTANCES = ("subreg", "spine"), ("vert",)
TRUTH_ENDING = ".truth.json"
_OWN_EXTRAS = ("classes",)  # spinecore.phantom writes them beside labels
_IMAGE_FOLDERS = {"imagesTr": "labelsTr", "images": "labels"}


@dataclass(frozen=True)
class Pair:
    """An image and its label map.

    name: unique, made of letters, digits and hyphens. subject: pairs of one subject stay in one split.
    instances: SPINEPS's second mask, which tells the levels. truth: a phantom's measurements.
    """

    name: str
    subject: str
    image: Path
    labels: Path
    instances: Path | None = None
    truth: Path | None = None


@dataclass
class _Masks:
    files: dict[str, Path] = field(default_factory=dict)  # "labels", "vert", "subreg" or "spine"


def find_pairs(folder: Path) -> list[Pair]:
    """All pairs under `folder`, sorted by name; PairError for an image or a label map without its partner."""
    if not folder.is_dir():
        raise PairError(f"There is no folder {folder}.")
    for images, labels in _IMAGE_FOLDERS.items():
        if (folder / images).is_dir():
            return _checked(folder, _by_folders(folder / images, folder / labels))
    return _checked(folder, _by_names(folder))


def stem(path: Path) -> str:
    """File name without ``.nii`` or ``.nii.gz``."""
    return next((path.name[: -len(e)] for e in ENDINGS if path.name.lower().endswith(e)), path.name)


def _checked(folder: Path, pairs: list[Pair]) -> list[Pair]:
    if not pairs:
        raise PairError(f"There is no NIfTI image with a label map in {folder}.")
    names = [pair.name for pair in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PairError(f"Two pairs would be called {twice[0]}; rename one of them.")
    return sorted(pairs, key=lambda pair: pair.name)


def _nifti(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.name.lower().endswith(ENDINGS) and p.name[0] != ".")


def _by_folders(images: Path, labels: Path) -> list[Pair]:
    channels = re.compile(r"_(\d{4})$")
    named: dict[str, Path] = {}
    for path in _nifti(images):
        channel = channels.search(stem(path))
        if channel and channel[1] != "0000":
            raise PairError(f"{path.name} is a second channel; the network takes one image per case.")
        named[channels.sub("", stem(path))] = path
    masks = {stem(path): path for path in _nifti(labels)}
    for case in sorted(named.keys() ^ masks.keys()):
        missing = "label map" if case in named else "image"
        raise PairError(f"Case {case} has no {missing} in {(labels if case in named else images).name}.")
    return [_pair(case, case, image, _Masks({"labels": masks[case]})) for case, image in named.items()]


def _by_names(folder: Path) -> list[Pair]:
    images: dict[Path, list[Path]] = defaultdict(list)
    masks: dict[tuple[Path, str], _Masks] = defaultdict(_Masks)
    for path in _nifti(folder):
        tokens = stem(path).split("_")
        if tokens[-1].lower() in _OWN_EXTRAS:
            continue
        if tokens[-1].lower() in MASK_WORDS:
            kind, key = _mask_key(tokens[:-1])
            found = masks[(path.parent, key)].files
            if kind in found:
                raise PairError(f"{found[kind].name} and {path.name} are label maps of the same image.")
            found[kind] = path
        else:
            images[path.parent].append(path)
    pairs = [_matched(folder, where, key, found, images) for (where, key), found in sorted(masks.items())]
    used = {pair.image for pair in pairs}
    for path in (path for paths in images.values() for path in paths if path not in used):
        raise PairError(f"Image {path.relative_to(folder)} has no label map.")
    return pairs


def _mask_key(tokens: list[str]) -> tuple[str, str]:
    """What a mask shows, and what is left of its name for the image to match."""
    kinds = [token[4:] for token in tokens if token.startswith("seg-")]
    rest = "_".join(token for token in tokens if not token.startswith("seg-"))
    known = kinds and kinds[0] in STRUCTURES + INSTANCES
    return (kinds[0] if known else "labels"), rest


def _matched(folder: Path, where: Path, key: str, masks: _Masks, images: dict[Path, list[Path]]) -> Pair:
    found = [path for path in images.get(where, []) if _fits(stem(path), key)]
    mask = next(iter(masks.files.values())).relative_to(folder)
    if not found:
        raise PairError(f"Label map {mask} has no image beside it.")
    if len(found) > 1:
        raise PairError(f"Label map {mask} fits {len(found)} images: {found[0].name} and {found[1].name}.")
    parts = (*where.relative_to(folder).parts, key) if where != folder else (key or where.name,)
    return _pair("-".join(part for part in parts if part), key, found[0], masks)


def _fits(image: str, key: str) -> bool:
    """Whether an image's name is the masks': equal, or with one word (the contrast) more at the end."""
    contrast = [token[4:] for token in key.split("_") if token.startswith("mod-")]
    bare = "_".join(token for token in key.split("_") if not token.startswith("mod-"))
    if contrast:
        return image in (f"{bare}_{contrast[0]}", key)
    return not bare or image == bare or image.rpartition("_")[0] == bare


def _pair(name: str, key: str, image: Path, masks: _Masks) -> Pair:
    files = masks.files
    structures = next((files[kind] for kind in STRUCTURES if kind in files), None)
    labels = structures or files.get("labels") or files["vert"]
    truths = (
        image.with_name(stem(image) + TRUTH_ENDING),
        image.parent.with_name(image.parent.name + TRUTH_ENDING),
    )
    subject = re.match(r"sub-[A-Za-z0-9]+", key)
    clean = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "case"
    return Pair(
        name=clean,
        subject=subject[0] if subject else clean,
        image=image,
        labels=labels,
        instances=files.get("vert") if structures else None,
        truth=next((path for path in truths if path.is_file()), None),
    )
