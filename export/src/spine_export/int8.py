"""INT8 for OpenVINO: post-training quantisation by nncf, calibrated on real preprocessed patches.

Convolutions run in 8 bits (weights per channel, activations per tensor); normalisations stay in float.
Needs the extra ``spineserve-export[int8]``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spine_export.config_files import IR_FILE, ONNX_FILE
from spine_export.engines import INPUT
from spine_export.errors import ExportError
from spine_export.images import Image
from spinecore.network_spec import NetworkSpec
from spinecore.preprocessing import preprocess
from spinecore.tiling import SlidingWindow

MAX_PATCHES = 64
"""More calibrate no better and cost an inference each."""
WEIGHTS_FILE = "model.bin"

Patch = NDArray[np.float32]


def calibration_patches(
    images: Sequence[Image], spec: NetworkSpec, *, most: int = MAX_PATCHES
) -> list[Patch]:
    """Patches (C, *patch) of the images as the network sees them, evenly taken from all tiles."""
    patches: list[Patch] = []
    for image in images:
        prepared = preprocess(image.volume, spec)
        window = SlidingWindow(prepared.data, patch=spec.patch_size, step_size=spec.step_size, num_outputs=1)
        patches += [np.array(patch) for _, patch in window]
    step = max(1, len(patches) // most)
    return patches[::step][:most]


def quantize(onnx_content: bytes, patches: Sequence[Patch]) -> dict[str, bytes]:
    """ONNX float32 -> OpenVINO IR in INT8: the files model.xml and model.bin by name.

    ExportError where nncf is missing or there is nothing to calibrate on.
    """
    try:
        import nncf
        import openvino
    except ImportError:
        raise ExportError(
            "INT8 needs nncf, which is not installed: pip install 'spineserve-export[int8]'."
        ) from None
    if not patches:
        raise ExportError("INT8 needs images to calibrate on: give some with --images.")
    with tempfile.TemporaryDirectory(prefix="spine-export-") as folder:
        source = Path(folder) / ONNX_FILE
        source.write_bytes(onnx_content)
        model = openvino.Core().read_model(source)
        dataset = nncf.Dataset([{INPUT: patch[None]} for patch in patches])
        quantized = nncf.quantize(
            model,
            dataset,
            subset_size=len(patches),
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=True,
        )
        target = Path(folder) / "int8" / IR_FILE
        openvino.save_model(quantized, target, compress_to_fp16=True)
        return {name: (target.parent / name).read_bytes() for name in (IR_FILE, WEIGHTS_FILE)}
