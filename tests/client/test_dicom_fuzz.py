"""Randomly damaged series give a typed error or a volume in the right place: nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_writer import ORIGIN, SAGITTAL, SLICE_STEP_MM, SLICES, normal, write_series

from spine_client.dicom import read_dicom
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


@pytest.mark.parametrize("block", range(4))
def test_damaged_series_never_surprise(tmp_path: Path, block: int) -> None:
    for seed in range(block * _SEEDS // 4, (block + 1) * _SEEDS // 4):
        rng = random.Random(seed)
        paths = write_series(tmp_path / str(seed))
        for path in rng.sample(paths, rng.randint(1, 2)):
            rng.choice(_DAMAGES)(path, rng)
        try:
            volume = read_dicom(tmp_path / str(seed))
        except (InputError, MissingExtra):
            continue
        assert _in_place(volume.affine, volume.shape_zyx[0]), f"seed {seed}"


def _in_place(affine: np.ndarray, slices: int) -> bool:
    """First and last slice lie where slices of the whole series lie, and the in-plane axes are right."""
    places = np.array([ORIGIN + i * SLICE_STEP_MM * normal(SAGITTAL) for i in range(SLICES)])
    ends = [(affine @ [0, 0, z, 1])[:3] for z in (0, slices - 1)]
    near = [np.linalg.norm(places - end, axis=1).min() for end in ends]
    in_plane = np.abs(affine[:3, :2] - np.array([[0, 0], [0.5, 0], [0, -1.5]])).max()
    return max(near) < _PLACE_TOLERANCE_MM and in_plane < 0.01 and slices >= 2
