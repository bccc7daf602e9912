"""What a study will need at most, worked out from its plan before anything large is allocated.

Upper bounds of what the stages hold at a time in arrays, in bytes; a test holds them to what numpy really
allocates. The logits dominate: classes × voxels of the network's grid × 2.
"""

from __future__ import annotations

import math

from spinecore.contract import MEASURE_BATCH, ONE_PATCH
from spinecore.errors import InputError
from spinecore.network_spec import NetworkSpec
from spinecore.plan import Plan
from spinecore.resampling import COLUMNS_AT_ONCE
from spinecore.restore import SLAB_VOXELS
from spinecore.workers import thread_count

_DOUBLE, _FLOAT, _HALF = 8, 4, 2
_SLAB = 6
"""Copies (float32) of a slab of `restore`: a class's fine logits, what they are made of, the best so far."""
_PATCH_BYTES = MEASURE_BATCH * math.prod(ONE_PATCH.dims) * _FLOAT
"""Of `identify`: as many patches as the measurement network takes."""
_PREPROCESS_FINE, _PREPROCESS_COARSE = 5, 6
"""Copies (float32) of the input and of the resampled volume that `preprocess` holds, its threads apart."""
_FOUND = 4
"""Copies of one class in `segment` beside the logits: weights, and what the coarse pass looks at."""
_IDENTIFY_BYTES_PER_VOXEL = 40


def needed_bytes(plan: Plan, spec: NetworkSpec) -> int:
    """The most that any one stage allocates for the study that `plan` describes."""
    return max(preprocess_bytes(plan, spec), segment_bytes(plan, spec), identify_bytes(plan))


def preprocess_bytes(plan: Plan, spec: NetworkSpec) -> int:
    """Of bringing the volume to the network's grid."""
    fine, coarse = math.prod(plan.input_shape), math.prod(plan.network_shape)
    copies = _PREPROCESS_FINE * fine + _PREPROCESS_COARSE * max(fine, coarse)
    block = COLUMNS_AT_ONCE * (max(plan.input_shape) + max(plan.network_shape)) * _DOUBLE
    return len(spec.channels) * copies * _FLOAT + thread_count() * block


def segment_bytes(plan: Plan, spec: NetworkSpec) -> int:
    """Of the sliding window, the merged logits and the way back to the input grid."""
    volume, patch = math.prod(plan.network_shape), math.prod(spec.patch_size)
    logits = spec.network_channels * volume * _HALF
    one_answer = (3 * spec.network_channels + len(spec.channels)) * patch
    slab = max(SLAB_VOXELS, math.prod(sorted(plan.cropped_shape)[1:]))
    held = _FOUND * volume + one_answer + thread_count() * _SLAB * slab
    return logits + held * _FLOAT + 2 * math.prod(plan.input_shape)


def identify_bytes(plan: Plan) -> int:
    """Of finding, naming and measuring the levels on the input grid."""
    return _IDENTIFY_BYTES_PER_VOXEL * math.prod(plan.input_shape) + _PATCH_BYTES


def check_memory(plan: Plan, spec: NetworkSpec, limit_bytes: int) -> None:
    """InputError ``memory_limit`` where the study needs more than `limit_bytes`."""
    if (needed := needed_bytes(plan, spec)) > limit_bytes:
        raise InputError(
            "memory_limit",
            f"The study would need {needed / 2**20:,.0f} MiB of memory; this server gives one study at most "
            f"{limit_bytes / 2**20:,.0f} MiB. Crop the volume to the spine.",
        )
