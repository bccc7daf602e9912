"""Images for the gate and for calibration, as nnU-Net's reader sees them and as a client sends them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spine_export.errors import ExportError
from spinecore import contract
from spinecore.geometry import Volume, reorient
from spinecore.network_spec import NetworkSpec
from spinecore.preprocessing import NETWORK_ORIENTATION

_CHANNEL = re.compile(r"_(\d{4})$")
_SYNTHETIC_SEED = 20
_MARGIN = 1.3


@dataclass(frozen=True, eq=False)
class Image:
    """One image for both sides.

    Attributes
    ----------
    volume : as a client sends it
    array, spacing : (C, Z, Y, X) float32 and z, y, x in mm, as nnU-Net's reader gives them
    """

    name: str
    volume: Volume
    array: NDArray[np.float32]
    spacing: tuple[float, float, float]


def image_of(volume: Volume, spec: NetworkSpec, name: str) -> Image:
    """An image in memory; where the network's reader reorients, nnU-Net gets it reoriented."""
    turned = reorient(volume, NETWORK_ORIENTATION) if spec.reader == "reorient_ras" else volume
    array = np.ascontiguousarray(turned.voxels, dtype=np.float32)
    return Image(name, volume, array, turned.spacing_zyx)


def read_images(paths: Sequence[Path], plans: dict[str, Any], file_ending: str) -> list[Image]:
    """Images from files or folders.

    Files of several channels carry nnU-Net's ``_0000``, ``_0001``, … before their ending. nnU-Net's side is
    read by the reader that the plans name, ours by SimpleITK. ExportError says what is unusable.
    """
    groups = _grouped(list(_files(paths, file_ending)), file_ending)
    if not groups:
        raise ExportError(f"--images: no file ending in {file_ending} among what was given.")
    return [_read(name, files, plans) for name, files in groups.items()]


def _files(paths: Iterable[Path], ending: str) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob(f"*{ending}"))
        elif path.is_file():
            yield path
        else:
            raise ExportError(f"--images: {path} does not exist.")


def _grouped(files: Iterable[Path], ending: str) -> dict[str, list[Path]]:
    """Case name -> its channels' files, in order."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        stem = file.name.removesuffix(ending)
        groups.setdefault(_CHANNEL.sub("", stem), []).append(file)
    return {name: sorted(group) for name, group in groups.items()}


def _read(name: str, files: list[Path], plans: dict[str, Any]) -> Image:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        array, properties = (
            PlansManager(plans).image_reader_writer_class().read_images([str(f) for f in files])
        )
        volume = read_volume(files)
    except Exception as error:  # whatever the readers' libraries raise on a damaged file
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"--images: {name} cannot be read: {first}") from None
    a, b, c = (float(s) for s in properties["spacing"])
    return Image(name, volume, np.asarray(array, dtype=np.float32), (a, b, c))


def read_volume(files: list[Path]) -> Volume:
    """The files' voxels as they are stored, and their affine in LPS mm, which is SimpleITK's own frame."""

    sitk: Any = importlib.import_module("SimpleITK")
    images = [sitk.ReadImage(str(file)) for file in files]
    arrays = [sitk.GetArrayFromImage(image) for image in images]
    affine = np.eye(4)
    direction = np.array(images[0].GetDirection()).reshape(3, 3)
    affine[:3, :3] = direction * np.array(images[0].GetSpacing())
    affine[:3, 3] = images[0].GetOrigin()
    voxels = np.stack(arrays)
    sent = voxels if str(voxels.dtype) in contract.DTYPES else voxels.astype(np.float32)
    return Volume(sent, affine)


def synthetic_image(spec: NetworkSpec) -> Image:
    """A phantom's structures, a little larger than one patch on the network's grid, alike in every channel.

    What every export is checked on, whatever the network was trained for: edges, textures and flat regions.
    """
    shape = [max(8, round(n * _MARGIN)) if n > 8 else n + 4 for n in spec.patch_size]
    inverse = [spec.transpose_forward.index(axis) for axis in range(3)]
    spacing = [spec.spacing_mm[axis] for axis in inverse]
    sizes = [shape[axis] for axis in inverse]
    voxels = np.stack([_texture(sizes, spacing, channel) for channel in range(len(spec.channels))])
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    if spec.reader == "reorient_ras":
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return image_of(Volume(voxels, affine), spec, "synthetic")


def _texture(shape: list[int], spacing: list[float], channel: int) -> NDArray[np.int16]:
    """Stacked ellipsoids in a bright shell with noise, intensities 1 to 255, (Z, Y, X)."""
    generator = np.random.default_rng(_SYNTHETIC_SEED + channel)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    blocks = np.cos(9.0 * z + channel) * (np.hypot(y, x) < 0.6)
    shell = (np.abs(np.hypot(y, x) - 0.8) < 0.08).astype(float)
    noise = generator.normal(scale=0.08, size=shape)
    values = 110.0 + 60.0 * blocks + 70.0 * shell + 100.0 * noise + 20.0 * x
    clipped: NDArray[np.int16] = np.clip(values, 1, 255).astype(np.int16)
    return clipped
