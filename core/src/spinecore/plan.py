"""What one request asks for (`Options`) and how to bring its result back to the input grid (`Plan`).

Both travel between the server's models as JSON, so both check themselves when read.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from spinecore.errors import InputError
from spinecore.geometry import check_orientation

REGIONS = ("cervical", "thoracic", "lumbar")
MODES = ("exact", "default", "fast")
MIN_STEP_SIZE = 0.1
MAX_VOXELS = 2**27
"""Most voxels (over all channels) of an input volume: 512 × 512 × 512."""
MAX_SIDE = 2048
"""Most voxels along one axis of an input volume."""
MAX_NETWORK_SIDE = 4096
"""Most voxels along one axis of the network's grid; operators between grids take its square."""
MAX_NETWORK_VOXELS = 2**26
"""Most voxels of a volume on the network's grid: 500 × 500 × 500 mm at 1.25 mm fits."""

MAX_LOGITS = 2**30
"""Most logits (classes × voxels on the network's grid) held at a time: 4 GiB of float32."""

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Options:
    """What a caller may ask for with a volume; everything has a default.

    Attributes
    ----------
    region
        Which stretch of the spine the image shows, if the caller knows: a hint for naming levels.
    window_center, window_width
        Clip intensities to centre ± width/2 (in the volume's own units) before they are normalised.
    mirroring
        Average over the mirrored images that the network was trained for (slower, slightly better); None does
        as the network's description says.
    step_size
        Step between tiles as a part of the patch, 0.1 to 1; None takes the network's own.
    mode
        ``"exact"``: the network in float32, as nnU-Net runs it; a server offers it or not. ``"default"``, as
        None: in the precision that its engine is fastest in. ``"fast"``: only tiles where a coarse pass over
        the whole volume finds something, by a smaller network where there is one.
    """

    region: str | None = None
    window_center: float | None = None
    window_width: float | None = None
    mirroring: bool | None = None
    step_size: float | None = None
    mode: str | None = None

    def __post_init__(self) -> None:
        if self.region is not None and self.region not in REGIONS:
            raise _bad_option("region", f"one of {', '.join(REGIONS)}")
        if self.mode is not None and self.mode not in MODES:
            raise _bad_option("mode", f"one of {', '.join(MODES)}")
        if self.mirroring is not None and not isinstance(self.mirroring, bool):
            raise _bad_option("mirroring", "true or false")
        for name in ("window_center", "window_width", "step_size"):
            value = getattr(self, name)
            if value is not None and not _is_number(value):
                raise _bad_option(name, "a finite number")
        if (self.window_center is None) != (self.window_width is None):
            raise InputError(
                "options_value", "window_center and window_width are given together or not at all."
            )
        if self.window_width is not None and self.window_width <= 0:
            raise _bad_option("window_width", "above 0")
        if self.step_size is not None and not MIN_STEP_SIZE <= self.step_size <= 1:
            raise _bad_option("step_size", f"from {MIN_STEP_SIZE} to 1")


def _bad_option(name: str, expected: str) -> InputError:
    return InputError("options_value", f"The option {name} must be {expected}.")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


@dataclass(frozen=True)
class Plan:
    """How a prepared volume came about; enough to bring logits back to the input grid.

    Attributes
    ----------
    input_shape
        (Z, Y, X) of the volume as it was sent.
    source_orientation, network_orientation
        Orientation codes before and after reorienting; equal when the network's reader is ``"as_is"``.
    transpose_forward
        nnU-Net's axis permutation, applied after reorienting.
    crop
        Half-open (start, stop) per axis of the box of non-zero voxels, in the transposed grid.
    spacing_mm
        Spacing of the transposed grid before resampling.
    network_spacing_mm, network_shape
        Grid of the prepared data.
    step_size, mirror_axes, mode
        How the sliding window runs.
    """

    input_shape: Triple
    source_orientation: str
    network_orientation: str
    transpose_forward: Triple
    crop: Box
    spacing_mm: Spacing
    network_spacing_mm: Spacing
    network_shape: Triple
    step_size: float
    mirror_axes: tuple[int, ...]
    mode: str = "default"

    @property
    def cropped_shape(self) -> Triple:
        """Shape of the cropped box in the transposed grid."""
        (a, b), (c, d), (e, f) = self.crop
        return b - a, d - c, f - e

    @property
    def transpose_backward(self) -> Triple:
        """The permutation that undoes `transpose_forward`."""
        a, b, c = (self.transpose_forward.index(axis) for axis in range(3))
        return a, b, c

    @property
    def full_shape(self) -> Triple:
        """Shape of the transposed grid before cropping."""
        turned = _turned_shape(self.input_shape, self.source_orientation, self.network_orientation)
        a, b, c = (turned[axis] for axis in self.transpose_forward)
        return a, b, c

    def to_json(self) -> str:
        """Compact JSON text that `from_json` reads back as an equal plan."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Read and check a plan; InputError ``plan`` if it cannot be one of ours."""
        try:
            content = json.loads(text)
            plan = cls(**{f.name: _frozen(content.pop(f.name)) for f in fields(cls)})
            sound = not content and plan._is_sound()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            sound = False
        if not sound:
            raise InputError("plan", "The tensor PLAN is not a plan that `preprocess` wrote.")
        return plan

    def _is_sound(self) -> bool:
        """Whether types, permutations, boxes and sizes hold together and stay within the limits."""
        check_orientation(self.source_orientation)
        check_orientation(self.network_orientation)
        shapes = (self.input_shape, self.network_shape, self.cropped_shape)
        return (
            sorted(self.transpose_forward) == [0, 1, 2]
            and all(len(s) == 3 and all(type(n) is int and n > 0 for n in s) for s in shapes)
            and max(self.input_shape) <= MAX_SIDE
            and max(self.network_shape) <= MAX_NETWORK_SIDE
            and math.prod(self.input_shape) <= MAX_VOXELS
            and math.prod(self.network_shape) <= MAX_NETWORK_VOXELS
            and all(0 <= a < b <= n for (a, b), n in zip(self.crop, self.full_shape, strict=True))
            and all(
                len(s) == 3 and all(_is_number(v) and v > 0 for v in s)
                for s in (self.spacing_mm, self.network_spacing_mm)
            )
            and _is_number(self.step_size)
            and MIN_STEP_SIZE <= self.step_size <= 1
            and len(set(self.mirror_axes)) == len(self.mirror_axes)
            and set(self.mirror_axes) <= {0, 1, 2}
            and self.mode in MODES
        )


@dataclass(frozen=True, eq=False)
class Prepared:
    """A volume ready for the network.

    Attributes
    ----------
    data : (C, Z', Y', X') float32, normalised, on the network's grid and in its axis order
    plan : how to get back
    """

    data: npt.NDArray[np.float32]
    plan: Plan


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _turned_shape(shape_zyx: Triple, source: str, target: str) -> Triple:
    """Shape (Z, Y, X) after turning from orientation `source` to `target`."""
    direction = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}
    size = {direction[letter]: n for letter, n in zip(source, reversed(shape_zyx), strict=True)}
    x, y, z = (size[direction[letter]] for letter in target)
    return z, y, x
