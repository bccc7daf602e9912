"""From a volume as it came to the array the network sees: nnU-Net 2.8.1's order of steps.

Reorient (if the network's reader does) -> float32 -> transpose -> crop to the box of non-zero voxels ->
window (only if asked for) -> normalise -> resample. Normalising comes before resampling, as in nnU-Net.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from spinecore.errors import InputError
from spinecore.geometry import Volume, reorient
from spinecore.memory import check_memory
from spinecore.network_spec import NetworkSpec
from spinecore.normalization import nonzero_mask, normalize, window
from spinecore.plan import (
    MAX_LOGITS,
    MAX_NETWORK_SIDE,
    MAX_NETWORK_VOXELS,
    Box,
    Options,
    Plan,
    Prepared,
    Triple,
)
from spinecore.resampling import resample, target_shape

NETWORK_ORIENTATION = "RAS"
"""Index axes x, y, z towards Right, Anterior, Superior: arrays are (S, A, R), as `NibabelIOWithReorient`."""


def preprocess(
    volume: Volume, spec: NetworkSpec, options: Options | None = None, *, limit_bytes: int | None = None
) -> Prepared:
    """Prepare `volume` for the network that `spec` describes.

    Returns data (C, Z', Y', X') float32 in the network's axes and spacing, and the plan that brings its
    logits back. `volume` is not changed. Raises InputError ``channels``, ``options_value`` (mirroring, where
    the network cannot), ``empty_image``, ``too_large``, or ``memory_limit`` where a stage would need more
    than `limit_bytes`: before anything of that size is allocated.
    """
    options = options or Options()
    _check_fits(volume, spec, options)
    turned = reorient(volume, NETWORK_ORIENTATION) if spec.reader == "reorient_ras" else volume
    voxels = turned.voxels.transpose(0, *(axis + 1 for axis in spec.transpose_forward))
    plan = _plan(volume, turned, nonzero_box(voxels), spec, options)
    if limit_bytes is not None:
        check_memory(plan, spec, limit_bytes)
    data = _cropped(voxels, plan.crop)
    _normalize_all(data, spec, options)
    data = resample(
        data,
        plan.network_shape,
        spacing_mm=plan.spacing_mm,
        new_spacing_mm=plan.network_spacing_mm,
        resampling=spec.resampling_data,
    )
    return Prepared(data, plan)


def _check_fits(volume: Volume, spec: NetworkSpec, options: Options) -> None:
    if len(volume.voxels) != len(spec.channels):
        wanted = ", ".join(channel.name for channel in spec.channels)
        came = f"got {len(volume.voxels)}"
        raise InputError("channels", f"The network takes {len(spec.channels)} channels ({wanted}); {came}.")
    if options.mirroring and not spec.mirror_axes:
        hint = "leave out the option mirroring"
        raise InputError("options_value", f"The network was trained without mirroring: {hint}.")


def _plan(volume: Volume, turned: Volume, crop: Box, spec: NetworkSpec, options: Options) -> Plan:
    """Work out all grids before anything large is allocated; InputError ``too_large`` if they are huge."""
    a, b, c = (turned.spacing_zyx[axis] for axis in spec.transpose_forward)
    cropped = [stop - start for start, stop in crop]
    network_shape = target_shape(cropped, spacing_mm=(a, b, c), new_spacing_mm=spec.spacing_mm)
    _check_size(network_shape, spec)
    mirroring = spec.mirroring if options.mirroring is None else options.mirroring
    return Plan(
        input_shape=volume.shape_zyx,
        source_orientation=volume.orientation,
        network_orientation=turned.orientation,
        transpose_forward=spec.transpose_forward,
        crop=crop,
        spacing_mm=(a, b, c),
        network_spacing_mm=spec.spacing_mm,
        network_shape=network_shape,
        step_size=spec.step_size if options.step_size is None else options.step_size,
        mirror_axes=spec.mirror_axes if mirroring else (),
        mode=options.mode or "default",
    )


def _check_size(network_shape: Triple, spec: NetworkSpec) -> None:
    most = min(MAX_NETWORK_VOXELS, MAX_LOGITS // spec.network_channels)
    if math.prod(network_shape) > most or max(network_shape) > MAX_NETWORK_SIDE:
        size = " × ".join(str(n) for n in network_shape)
        limits = f"at most {most:,} in all and {MAX_NETWORK_SIDE} along a side are taken"
        raise InputError(
            "too_large",
            f"On the network's grid the volume has {size} voxels; {limits}. Crop it to the spine.",
        )


def nonzero_box(voxels: npt.NDArray[Any]) -> Box:
    """Half-open bounding box of the voxels (C, Z, Y, X) that are not zero in some channel.

    nnU-Net fills holes first, which cannot change the box. InputError ``empty_image`` if all are zero.
    """
    occupied = np.any(voxels != 0, axis=0)
    ranges = []
    for axis in range(3):
        hit = np.flatnonzero(occupied.any(axis=tuple(a for a in range(3) if a != axis)))
        if hit.size == 0:
            raise InputError("empty_image", "All voxels are zero: there is no image.")
        ranges.append((int(hit[0]), int(hit[-1]) + 1))
    return ranges[0], ranges[1], ranges[2]


def _cropped(voxels: npt.NDArray[Any], crop: Box) -> npt.NDArray[np.float32]:
    """The box `crop` of `voxels` as a contiguous float32 copy."""
    box = tuple(slice(start, stop) for start, stop in crop)
    return np.array(voxels[(slice(None), *box)], dtype=np.float32, order="C")


def _normalize_all(data: npt.NDArray[np.float32], spec: NetworkSpec, options: Options) -> None:
    """Window and normalise every channel of `data` (C, Z, Y, X) in place."""
    mask = nonzero_mask(data) if any(channel.use_mask for channel in spec.channels) else None
    for image, channel in zip(data, spec.channels, strict=True):
        if options.window_center is not None and options.window_width is not None:
            window(image, center=options.window_center, width=options.window_width)
        normalize(image, channel, mask=mask)
