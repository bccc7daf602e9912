"""nnUNetPredictor as nnU-Net ships it, on the CPU, mirroring off, with its stages timed from outside.

The timers wrap calls and change nothing in them. Needs ``nnUNet_def_n_proc`` set before nnunetv2 is imported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

STEP_SIZE = 0.5
STAGES = ("preprocess", "network", "merge", "export")


class Predictor:
    """A results folder, loaded; one volume after another.

    Attributes
    ----------
    seconds : of the last call, by stage of `STAGES`; `merge` is the sliding window less the network
    """

    def __init__(self, results: Path, *, threads: int) -> None:
        os.environ.update({"nnUNet_def_n_proc": str(threads)})
        torch.set_num_threads(threads)
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        from spine_training.workspace import register_trainer

        register_trainer()
        self._predictor = nnUNetPredictor(
            tile_step_size=STEP_SIZE,
            use_mirroring=False,
            device=torch.device("cpu"),
            allow_tqdm=False,
        )
        self._predictor.initialize_from_trained_model_folder(str(results), use_folds=(0,))
        self.seconds: dict[str, float] = {}
        self._time_stages()

    def segment(self, array: np.ndarray[Any, Any], spacing: tuple[float, ...]) -> np.ndarray[Any, Any]:
        """Labels (Z, Y, X) of `array` (C, Z, Y, X) float32, both as nnU-Net's reader has them."""
        self.seconds = dict.fromkeys(STAGES, 0.0)
        began = time.perf_counter()
        labels = self._predictor.predict_single_npy_array(array, {"spacing": list(spacing)})
        whole = time.perf_counter() - began
        self.seconds["merge"] -= self.seconds["network"]
        self.seconds["preprocess"] = whole - sum(self.seconds.values())
        return np.asarray(labels, dtype=np.uint8)

    def _time_stages(self) -> None:
        """`preprocess` is what the others leave: between the call and its end nothing else happens."""
        from nnunetv2.inference import predict_from_raw_data as module

        convert = "convert_predicted_logits_to_segmentation_with_correct_shape"
        setattr(module, convert, self._timed("export", getattr(module, convert)))
        window = self._predictor.predict_logits_from_preprocessed_data
        self._predictor.predict_logits_from_preprocessed_data = self._timed("merge", window)
        network: Any = self._predictor.network
        network.forward = self._timed("network", network.forward)

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[stage] += time.perf_counter() - began

        return call
