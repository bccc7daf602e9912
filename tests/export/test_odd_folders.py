"""Results folders and images drawn at random, with random weights: float32 answers as nnUNetPredictor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from spine_export.describe import READERS
from spine_export.images import Image, image_of
from spine_export.networks import export_trained
from spine_export.nnunet_folder import read_results_folder
from spine_export.parity.results import CLASSES, REGIONS, Kind, write_results
from spine_export.verify import verify_images
from spinecore.geometry import Volume
from spinecore.network_spec import NORMALIZATIONS, NetworkSpec

pytestmark = pytest.mark.slow

SEEDS = range(12)
IGNORE = {"ignore": 4}


def draw_kind(rng: np.random.Generator) -> Kind:
    """Anything that nnU-Net's plans may say of a 3-D network, at random."""
    channels = int(rng.integers(1, 5))
    labels = [CLASSES, {**CLASSES, **IGNORE}, REGIONS, {**REGIONS, **IGNORE}][rng.integers(4)]
    thick = rng.random() < 0.5
    spacing = (rng.uniform(3, 5) if thick else rng.uniform(0.8, 2.0), *rng.uniform(0.8, 1.4, 2))
    axes = sorted(rng.choice(3, rng.integers(1, 4), replace=False))
    a, b, c = (int(axis) for axis in rng.permutation(3))
    z, y, x = (int(side) for side in rng.choice([8, 12, 16, 20, 24], 3))
    return Kind(
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        patch=(z, y, x),
        transpose=(a, b, c),
        normalization=tuple(str(scheme) for scheme in rng.choice(NORMALIZATIONS, channels)),
        use_mask=tuple(bool(masked) for masked in rng.random(channels) < 0.5),
        labels=labels,
        regions_class_order=((1, 2, 3), (3, 1, 2))[rng.integers(2)] if "whole" in labels else None,
        residual=bool(rng.random() < 0.4),
        folds=int(rng.integers(1, 4)),
        mirror_axes=tuple(int(axis) for axis in axes) if rng.random() < 0.6 else None,
        torch_resampling=bool(rng.random() < 0.35),
        reader=str(rng.choice([reader for reader in READERS if reader != "Tiff3DIO"])),
        configuration=str(rng.choice(["3d_fullres", "3d_lowres"])),
    )


def draw_image(rng: np.random.Generator, spec: NetworkSpec) -> Image:
    """Smooth noise of any size, type and direction, every other time within zeros and with a hole."""
    shape = tuple(int(size) for size in rng.integers(4, 50, 3))
    noise = [ndimage.gaussian_filter(rng.normal(100, 40, shape), 1.2) * 3 - 180 for _ in spec.channels]
    dtype = [np.uint16, np.int16, np.float32][rng.integers(3)]
    colours = any(channel.normalization == "RGBTo01Normalization" for channel in spec.channels)
    least, most = (1 if colours or dtype is np.uint16 else -300), (255 if colours else 2000)
    voxels = np.clip(noise, least, most).astype(dtype)
    if rng.random() < 0.5:
        body = np.zeros(shape, dtype=bool)
        body[tuple(slice(int(rng.integers(0, 2)), size - int(rng.integers(0, 2))) for size in shape)] = True
        z, y, x = (slice(size // 2, size // 2 + 2) for size in shape)
        body[z, y, x] = False
        voxels *= body
    lengths = rng.uniform(0.6, 1.6, 3)
    if rng.random() < 0.5:
        lengths[rng.integers(3)] *= 4
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[rng.permutation(3)] * lengths * rng.choice([-1, 1], 3)
    return image_of(Volume(voxels, affine), spec, "drawn")


@pytest.mark.parametrize("seed", SEEDS)
def test_any_3d_network_in_float32_answers_as_nnunetpredictor(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    kind = draw_kind(rng)
    trained = read_results_folder(
        write_results(tmp_path / "results", kind),
        mirror=kind.mirror_axes is not None and bool(rng.random() < 0.7),
        step_size=float(rng.choice([0.3, 0.5, 0.75, 1.0])),
    )
    done = export_trained(trained, repository=tmp_path / "repository", precision="fp32")
    served = replace(trained, spec=NetworkSpec.load(done.folder / "network.json"))
    image = draw_image(rng, served.spec)
    found = verify_images(tmp_path / "repository" / "nnunet", served, [image], untrained=True)
    assert found.missed == [], kind
