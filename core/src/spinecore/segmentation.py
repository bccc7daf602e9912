"""A prepared volume, a network, and the class map on the input grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinecore.coarse_pass import MARGIN_MM, Scout, check_scout, cover, scouted, seen, tiles_for
from spinecore.errors import InputError
from spinecore.network_spec import NetworkSpec
from spinecore.plan import MAX_LOGITS, Prepared, Triple
from spinecore.restore import restore_classes
from spinecore.tiling import Network, SlidingWindow, mean_of_folds, predict_mirrored


@dataclass(frozen=True)
class Tiles:
    """How the sliding window went.

    Attributes
    ----------
    in_all : tiles that nnU-Net would run
    origins : (z, y, x) of those that ran, in the padded volume
    coarse : patches that a scout ran to choose them; 0 where there was none
    """

    in_all: int
    origins: tuple[Triple, ...]
    coarse: int = 0

    @property
    def run(self) -> int:
        """How many ran."""
        return len(self.origins)


@dataclass(frozen=True, eq=False)
class Segmented:
    """The class map (Z, Y, X) uint8 on the input grid, and how it came about."""

    classes: npt.NDArray[np.uint8]
    tiles: Tiles


def segment(
    prepared: Prepared, spec: NetworkSpec, network: Network, *, batch_size: int = 1
) -> npt.NDArray[np.uint8]:
    """Class map (Z, Y, X) uint8 of `prepared` on the input grid; as `segment_tiles`."""
    return segment_tiles(prepared, spec, network, batch_size=batch_size).classes


def segment_tiles(
    prepared: Prepared,
    spec: NetworkSpec,
    network: Network,
    *,
    batch_size: int = 1,
    scout: Scout | None = None,
) -> Segmented:
    """Class map of `prepared` on the input grid, and the tiles that ran.

    `network` maps patches (B, C, *patch) float32 to logits (B, folds · K, *patch), B at most `batch_size`;
    what it raises (a cancelled request, say) goes through. In the plan's mode ``fast`` a coarse pass chooses
    the tiles that run (see `coarse_pass`), by the `scout` where there is one.

    InputError ``data`` if `prepared` was made for another network, ModelError if the network's answer has the
    wrong shape or is not finite.
    """
    logits, tiles = predict(prepared, spec, network, batch_size=batch_size, scout=scout)
    return Segmented(restore_classes(logits, prepared.plan, spec), tiles)


def predict_logits(
    prepared: Prepared, spec: NetworkSpec, network: Network, *, batch_size: int = 1
) -> npt.NDArray[np.float16]:
    """Merged logits (K, Z', Y', X') of `prepared` on the network's grid; as `segment_tiles`."""
    return predict(prepared, spec, network, batch_size=batch_size)[0]


def predict(
    prepared: Prepared,
    spec: NetworkSpec,
    network: Network,
    *,
    batch_size: int = 1,
    scout: Scout | None = None,
) -> tuple[npt.NDArray[np.float16], Tiles]:
    """Merged logits (K, Z', Y', X') on the network's grid, and the tiles that ran; as `segment_tiles`."""
    _check_fits(prepared, spec)
    window = SlidingWindow(
        prepared.data,
        patch=spec.patch_size,
        step_size=prepared.plan.step_size,
        num_outputs=spec.network_channels,
    )
    run = _Run(window, network, prepared.plan.mirror_axes, batch_size)
    coarse = 0
    if prepared.plan.mode == "fast":
        coarse = _run_fast(run, prepared, spec, scout)
    else:
        run(window.origins)
    return mean_of_folds(window.logits(), spec.folds), Tiles(len(window), tuple(run.origins), coarse)


class _Run:
    """Runs the network on tiles of a window and merges its answers."""

    def __init__(self, window: SlidingWindow, network: Network, axes: tuple[int, ...], batch: int) -> None:
        self.window, self.origins = window, list[Triple]()
        self._network, self._mirror_axes, self._batch_size = network, axes, batch

    def __call__(self, origins: Sequence[Triple]) -> None:
        """Run the tiles at `origins`, in that order."""
        for first in range(0, len(origins), self._batch_size):
            batch = origins[first : first + self._batch_size]
            patches = self.window.patches(batch)
            self._merge(batch, predict_mirrored(self._network, patches, self._mirror_axes))
        self.origins += origins

    def _merge(self, batch: Sequence[Triple], answers: npt.NDArray[np.floating[Any]]) -> None:
        """Merge `answers`; nothing refers to them afterwards, so that the next ones can take their place."""
        for origin, logits in zip(batch, answers, strict=True):
            self.window.add(origin, logits)


def _run_fast(run: _Run, prepared: Prepared, spec: NetworkSpec, scout: Scout | None) -> int:
    """Run the tiles that a coarse pass asks for; the patches that a scout ran for it."""
    window = run.window
    if scout is None:
        run(cover(window))
        found = seen(window, spec)
    else:
        check_scout(scout.spec, spec)
        found = scouted(prepared, scout, before=[each.start for each in window.inside])
    margin = MARGIN_MM / np.array(spec.spacing_mm)
    run(tiles_for(found, window, margin=margin, ran=run.origins))
    return found.tiles


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
