"""Intensity normalisation as nnU-Net 2.8.1 ships it, and the optional window before it.

One function per scheme, in `SCHEMES` by the name that stands in nnU-Net's plans. Each takes one channel
(Z, Y, X) float32 and works in place. Means and deviations are summed in double precision (nnU-Net: single),
which differs by less than 1e-6 of a standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from spinecore.errors import InputError
from spinecore.network_spec import Channel

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_EPSILON = 1e-8


def window(image: Image, *, center: float, width: float) -> None:
    """Clip `image` in place to ``center ± width / 2``, as a viewer's window does."""
    np.clip(image, center - width / 2, center + width / 2, out=image)


def normalize(image: Image, channel: Channel, *, mask: Mask | None = None) -> None:
    """Normalise one channel (Z, Y, X) in place by the scheme of `channel`.

    `mask` (Z, Y, X) is True inside the body (`nonzero_mask`); schemes that ignore masks ignore it.
    InputError ``intensity`` if the image cannot be what the scheme is made for.
    """
    SCHEMES[channel.normalization](image, channel, mask if channel.use_mask else None)


def nonzero_mask(voxels: npt.NDArray[np.generic]) -> Mask:
    """Where any channel of `voxels` (C, Z, Y, X) is not zero, holes filled: (Z, Y, X).

    A hole is a background component (6-connected) that does not touch the volume's border.
    """
    outside, count = ndimage.label(~np.any(voxels != 0, axis=0))
    touching = np.zeros(count + 1, dtype=bool)
    for axis in range(3):
        for end in (0, -1):
            touching[np.take(outside, end, axis=axis)] = True
    touching[0] = False
    return np.asarray(~touching[outside])


def _z_score(image: Image, channel: Channel, mask: Mask | None) -> None:
    inside = image if mask is None else image[mask]
    mean = inside.mean(dtype=np.float64)
    deviation = max(inside.std(dtype=np.float64), _EPSILON)
    if mask is None:
        image -= np.float32(mean)
        image /= np.float32(deviation)
    else:  # voxels outside keep their value, zero
        image[mask] = (inside - np.float32(mean)) / np.float32(deviation)


def _ct(image: Image, channel: Channel, mask: Mask | None) -> None:
    known = channel.intensity
    np.clip(image, known["percentile_00_5"], known["percentile_99_5"], out=image)
    image -= np.float32(known["mean"])
    image /= np.float32(max(known["std"], _EPSILON))


def _none(image: Image, channel: Channel, mask: Mask | None) -> None:
    """Leave the intensities as they are."""


def _rescale_to_01(image: Image, channel: Channel, mask: Mask | None) -> None:
    image -= image.min()
    image /= np.float32(max(float(image.max()), _EPSILON))


def _rgb_to_01(image: Image, channel: Channel, mask: Mask | None) -> None:
    if image.min() < 0 or image.max() > 255:
        raise InputError("intensity", f"Channel {channel.name!r} must hold colours from 0 to 255.")
    image /= np.float32(255.0)


SCHEMES: dict[str, Callable[[Image, Channel, Mask | None], None]] = {
    "ZScoreNormalization": _z_score,
    "CTNormalization": _ct,
    "NoNormalization": _none,
    "RescaleTo01Normalization": _rescale_to_01,
    "RGBTo01Normalization": _rgb_to_01,
}
