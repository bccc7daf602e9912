"""The measurement CNN's side of the export: reading its checkpoint, describing it."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from spinecore.errors import ModelError
from spinecore.patches import DESCRIPTION, PATCH_CHANNELS
from spinecore.patches import PATCH_SHAPE as PATCH_GRID

FORMAT = 1
MEASURE_FILE = "measure.json"
CNN_INPUT = "PATCHES"
CNN_OUTPUTS = ("DISC_HEIGHT_MM", "CANAL_AP_MM")
PATCH_SHAPE = (PATCH_CHANNELS, *PATCH_GRID)
FLOAT_TOLERANCE = 1e-4
PATCHES = ("around the disc", "around the canal")
CHANNELS = ("image, z-scored over the patch", "vertebral bodies", "this disc", "canal")
HEIGHTS = ("anterior", "middle", "posterior", "mean")


def read_checkpoint(path: Path) -> nn.Module:
    """The CNN of a checkpoint written by `spine-train measure`, in evaluation mode."""
    from spine_training.measurement.checkpoint import load

    if not path.is_file():
        raise ModelError(f"{path.name} is missing; expected a checkpoint of `spine-train measure`.")
    try:
        return load(path)
    except ModelError:
        raise
    except Exception:  # whatever torch raises on a file that is something else
        raise ModelError(
            f"{path.name} is damaged, or no checkpoint of `spine-train measure`: it cannot be read."
        ) from None


def describe_cnn(*, name: str, version: str, sha256: str, trained_on: str) -> str:
    """JSON text of measure.json: what goes in, what comes out, where it comes from."""
    content = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "sha256": sha256,
        "trained_on": trained_on,
        "patch_shape": list(PATCH_SHAPE),
        "patch_axes": ["channel", "caudal to cranial", "posterior to anterior", "right to left"],
        **DESCRIPTION,
        "channels": [f"{patch}: {channel}" for patch in PATCHES for channel in CHANNELS],
        "outputs": {"DISC_HEIGHT_MM": list(HEIGHTS), "CANAL_AP_MM": ["canal_ap"]},
        "unit": "mm",
    }
    return json.dumps(content, indent=2) + "\n"
