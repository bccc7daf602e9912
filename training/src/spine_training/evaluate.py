"""How good a segmentation network is: Dice on validation phantoms, and pictures of any image.

The network runs as it is served: the exported ONNX file in OpenVINO, within `spinecore`'s own pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from spine_training.dataset import draw_phantom, phantom_config
from spinecore.geometry import Volume
from spinecore.labels import Class
from spinecore.network_spec import NetworkSpec
from spinecore.preprocessing import preprocess
from spinecore.segmentation import segment

FOREGROUND = tuple(Class)[1:]


@dataclass(frozen=True)
class SegmentationModel:
    """An exported network: ``network.json`` and a function from patches to logits."""

    spec: NetworkSpec
    network: Callable[[NDArray[np.float32]], NDArray[Any]]

    @classmethod
    def load(cls, folder: Path) -> SegmentationModel:
        """Read ``<repository>/nnunet/1``."""
        compiled = openvino.Core().compile_model(
            folder / "model.onnx", "CPU", {"PERFORMANCE_HINT": "LATENCY"}
        )
        return cls(
            NetworkSpec.load(folder / "network.json"), lambda patches: np.asarray(compiled([patches])[0])
        )

    def classes(self, volume: Volume) -> NDArray[np.uint8]:
        """Class map (Z, Y, X) of a volume on its own grid."""
        return segment(preprocess(volume, self.spec), self.spec, self.network)


def dice(found: NDArray[np.uint8], true: NDArray[np.uint8]) -> dict[str, float]:
    """Dice per foreground class; NaN where neither map shows it, 0 where only one does."""
    scores = {}
    for cls in FOREGROUND:
        ours, theirs = found == cls, true == cls
        total = int(ours.sum()) + int(theirs.sum())
        scores[cls.name.lower()] = 2.0 * int((ours & theirs).sum()) / total if total else float("nan")
    return scores


def evaluate_seeds(model: SegmentationModel, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """One row per phantom: seed, region, contrast and Dice per class."""
    rows = []
    for seed in seeds:
        phantom, config = draw_phantom(seed), phantom_config(seed)
        found = model.classes(Volume(phantom.image[None], phantom.affine))
        rows.append(
            {
                "seed": seed,
                "region": config.region,
                "contrast": config.contrast,
                **dice(found, phantom.classes),
            }
        )
    return rows


def mean_dice(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Mean Dice per class over the rows that show it."""
    rows = list(rows)
    return {
        cls.name.lower(): float(np.nanmean([row[cls.name.lower()] for row in rows])) for cls in FOREGROUND
    }
