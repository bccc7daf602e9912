"""A prepared volume, a network, and the class map on the input grid."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from spinecore.errors import InputError
from spinecore.network_spec import NetworkSpec
from spinecore.plan import MAX_LOGITS, Prepared
from spinecore.restore import restore_classes
from spinecore.tiling import Network, SlidingWindow, mean_of_folds, predict_mirrored


def segment(
    prepared: Prepared, spec: NetworkSpec, network: Network, *, batch_size: int = 1
) -> npt.NDArray[np.uint8]:
    """Class map (Z, Y, X) uint8 of `prepared` on the input grid.

    `network` maps patches (B, C, *patch) float32 to logits (B, folds · K, *patch), B at most `batch_size`;
    what it raises (a cancelled request, say) goes through. InputError ``data`` if `prepared` was made for
    another network, ModelError if the network's answer has the wrong shape or is not finite.
    """
    logits = predict_logits(prepared, spec, network, batch_size=batch_size)
    return restore_classes(logits, prepared.plan, spec)


def predict_logits(
    prepared: Prepared, spec: NetworkSpec, network: Network, *, batch_size: int = 1
) -> npt.NDArray[np.float32]:
    """Merged logits (K, Z', Y', X') of `prepared` on the network's grid; errors as `segment`."""
    _check_fits(prepared, spec)
    window = SlidingWindow(
        prepared.data,
        patch=spec.patch_size,
        step_size=prepared.plan.step_size,
        num_outputs=spec.network_channels,
    )
    tiles = iter(window)
    while batch := list(itertools.islice(tiles, batch_size)):
        patches = np.stack([patch for _, patch in batch])
        answers = predict_mirrored(network, patches, prepared.plan.mirror_axes)
        for (origin, _), logits in zip(batch, answers, strict=True):
            window.add(origin, logits)
    return mean_of_folds(window.logits(), spec.folds)


def _check_fits(prepared: Prepared, spec: NetworkSpec) -> None:
    plan = prepared.plan
    fits = (
        len(prepared.data) == len(spec.channels)
        and plan.network_spacing_mm == spec.spacing_mm
        and plan.transpose_forward == spec.transpose_forward
        and set(plan.mirror_axes) <= set(spec.mirror_axes)
        and math.prod(plan.network_shape) * spec.network_channels <= MAX_LOGITS
    )
    if not fits:
        raise InputError("data", f"DATA and PLAN were not prepared for the network {spec.name!r}.")
