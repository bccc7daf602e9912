"""Randomly damaged series give a typed error or a volume in the right place: nothing else."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_writer import ORIGIN, SAGITTAL, SLICE_STEP_MM, SLICES, normal, write_disk, write_series

from spine_client.dicom import DicomSource, read_dicom
from spine_client.errors import InputError, MissingExtra

_SEEDS = 200
_PLACE_TOLERANCE_MM = 0.5


def _flip_bytes(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 6)):
        content[rng.randrange(132, len(content))] = rng.randrange(256)
    path.write_bytes(content)


def _remove_element(path: Path, rng: random.Random) -> None:
    image = pydicom.dcmread(path)
    del image[rng.choice(sorted(image.keys()))]
    image.save_as(path, enforce_file_format=False)


def _truncate(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def _zero_stretch(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = rng.randrange(132, len(content))
    stretch = rng.randint(1, 40)
    content[start : start + stretch] = b"\0" * len(content[start : start + stretch])
    path.write_bytes(content)


_DAMAGES = (_flip_bytes, _remove_element, _truncate, _zero_stretch)


_Give = Callable[[Path, random.Random], DicomSource]


def _as_folder(folder: Path, rng: random.Random) -> DicomSource:
    return folder


def _as_archive(folder: Path, rng: random.Random) -> DicomSource:
    """The damaged files in an archive, of which half are damaged themselves."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as packed:
        for path in sorted(folder.iterdir()):
            packed.write(path, path.name)
    if rng.random() < 0.5:
        rng.choice((_flip_bytes, _truncate, _zero_stretch))(archive, rng)
    return archive


def _as_datasets(folder: Path, rng: random.Random) -> DicomSource:
    """What pydicom makes of the damaged files, its own errors left out."""
    datasets = []
    for path in sorted(folder.iterdir()):
        try:
            datasets.append(pydicom.dcmread(path, force=True))
        except Exception:
            continue
    return datasets


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("give", [_as_folder, _as_archive, _as_datasets])
@pytest.mark.parametrize("block", range(4))
def test_damaged_series_never_surprise(tmp_path: Path, block: int, give: _Give) -> None:
    for seed in range(block * _SEEDS // 4, (block + 1) * _SEEDS // 4):
        rng = random.Random(seed)
        paths = write_series(tmp_path / str(seed))
        for path in rng.sample(paths, rng.randint(1, 2)):
            rng.choice(_DAMAGES)(path, rng)
        source = give(tmp_path / str(seed), rng)
        try:
            volume = read_dicom(source)
        except (InputError, MissingExtra):
            continue
        assert _in_place(volume.affine, volume.shape_zyx[0]), f"seed {seed}"


@pytest.mark.filterwarnings("ignore")
def test_damaged_dicomdir_never_surprises(tmp_path: Path) -> None:
    write_disk(tmp_path / "disk")
    whole = (tmp_path / "disk" / "DICOMDIR").read_bytes()
    for seed in range(_SEEDS):
        rng = random.Random(seed)
        (tmp_path / "disk" / "DICOMDIR").write_bytes(whole)
        rng.choice((_flip_bytes, _truncate, _zero_stretch))(tmp_path / "disk" / "DICOMDIR", rng)
        try:
            volume = read_dicom(tmp_path / "disk" / "DICOMDIR")
        except InputError:
            continue
        assert _in_place(volume.affine, volume.shape_zyx[0]), f"seed {seed}"


def _in_place(affine: np.ndarray, slices: int) -> bool:
    """First and last slice lie where slices of the whole series lie, and the in-plane axes are right."""
    places = np.array([ORIGIN + i * SLICE_STEP_MM * normal(SAGITTAL) for i in range(SLICES)])
    ends = [(affine @ [0, 0, z, 1])[:3] for z in (0, slices - 1)]
    near = [np.linalg.norm(places - end, axis=1).min() for end in ends]
    in_plane = np.abs(affine[:3, :2] - np.array([[0, 0], [0.5, 0], [0, -1.5]])).max()
    return max(near) < _PLACE_TOLERANCE_MM and in_plane < 0.01 and slices >= 2
