"""Half precision's rounding without half precision's cost.

nnU-Net sums and resamples logits in float16, so near-equal classes tie or swap as float16's rounding has it;
at the rim of a patch, where the Gaussian weight is below 6e-5, only a few bits are left. To give the same
answer the numbers must be rounded the same way. But numpy converts to float16 and back some ten times
slower than it calculates in float32, so logits are kept as float32 that hold float16's values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Single = npt.NDArray[np.float32]

_SMALLEST_NORMAL = np.float32(2.0**-14)
_EXPONENT_BITS = np.uint32(0x7F800000)
_ROUNDER = np.float32(1.5 * 2**13)


def round_to_half(values: Single, *, scratch: Single | None = None) -> Single:
    """Round `values` in place to the nearest float16 (ties to even, subnormals too), and return them.

    Adding and subtracting 1.5 × 2^13 times a number's power of two leaves its leading 11 bits. Above
    65504, float16's largest, values go on instead of becoming infinite. `scratch` is an array of the same
    shape to work in.
    """
    magnitude = np.abs(values, out=scratch)
    np.maximum(magnitude, _SMALLEST_NORMAL, out=magnitude)
    bits = magnitude.view(np.uint32)
    bits &= _EXPONENT_BITS
    magnitude *= _ROUNDER
    values += magnitude
    values -= magnitude
    return values
