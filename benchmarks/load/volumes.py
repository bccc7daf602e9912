"""The volumes that a workload sends: phantoms, made once and kept, or the user's own DICOM folders.

Of a DICOM series only voxels and geometry are kept: not its files, not its warnings, not its folder's name.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from load.workload import VolumeKind, WorkloadError
from spine_client import SpineClientError, Volume
from spine_client.sources import load
from spinecore.phantom import PhantomConfig, make_phantom
from spinecore.phantom.io import write_npz

DEFAULT_CACHE = Path("out/load/volumes")


@dataclass(frozen=True)
class Sample:
    """A volume to send: its kind, as it is called in results, and its share of what is sent."""

    kind: str
    weight: float
    volume: Volume


def samples_of(kinds: Sequence[VolumeKind], cache: Path) -> list[Sample]:
    """All volumes of a workload; phantoms come from `cache` or are put there. Raises `WorkloadError`."""
    found = []
    for kind in kinds:
        if kind.dicom is not None:
            found.append(Sample(kind.name, kind.weight, _dicom(kind.dicom, kind.name)))
            continue
        assert kind.phantom is not None
        for number in range(kind.count):
            config = replace(kind.phantom, seed=kind.phantom.seed + number)
            found.append(Sample(kind.name, kind.weight / kind.count, phantom(config, cache)))
    return found


def phantom(config: PhantomConfig, cache: Path) -> Volume:
    """The phantom of `config`: drawn once, and kept in `cache`."""
    folder = cache / hashlib.sha256(repr(config).encode()).hexdigest()[:16]
    path = folder / "phantom.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as own:  # two workers may make the same one at once
            (made,) = write_npz(make_phantom(config), Path(own))
            made.replace(path)
    with np.load(path) as content:
        return Volume(content["image"], content["affine"])


def _dicom(folder: Path, name: str) -> Volume:
    try:
        volume = load(folder)
    except SpineClientError as error:
        raise WorkloadError(f"{name} cannot be read: {error.message}") from None
    return Volume(volume.voxels, volume.affine)
