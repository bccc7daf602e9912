"""Which patches the trainer sees: rare classes more often, and cases that arrive while it runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

REFRESH_S = 30.0


class SpineDataLoader(nnUNetDataLoader):  # type: ignore[misc]
    """nnU-Net's loader with two additions.

    A patch that must show foreground is centred on a class drawn by `class_weights` among those the case
    has, instead of evenly: without this a small network never learnt the sacrum and C2. And the list of
    cases is read again every half minute, so that phantoms may be added while the training runs.
    """

    indices: list[str]

    def __init__(
        self, *args: Any, class_weights: dict[int, float], folder: Path, prefix: str, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.class_weights = class_weights
        self.folder = folder
        self.prefix = prefix
        self._read_at = time.monotonic()

    def get_indices(self) -> list[str]:
        """Names of the cases of the next batch."""
        if time.monotonic() - self._read_at > REFRESH_S:
            self._read_at = time.monotonic()
            self.indices = case_names(self.folder, self.prefix) or self.indices
        return [str(name) for name in np.random.choice(self.indices, self.batch_size)]

    def get_bbox(
        self,
        data_shape: Any,
        force_fg: bool,
        class_locations: dict[Any, Any],
        overwrite_class: Any = None,
        verbose: bool = False,
    ) -> Any:
        """nnU-Net's bounding box, centred on a class drawn by weight where foreground is asked for."""
        if force_fg and overwrite_class is None:
            overwrite_class = self._draw_class(class_locations)
        return super().get_bbox(data_shape, force_fg, class_locations, overwrite_class, verbose)

    def _draw_class(self, class_locations: dict[Any, Any]) -> Any:
        present = [key for key, places in class_locations.items() if len(places)]
        if not present:
            return None
        weights = np.array([self.class_weights.get(key, 1.0) for key in present])
        return present[int(np.random.choice(len(present), p=weights / weights.sum()))]


def case_names(folder: Path, prefix: str) -> list[str]:
    """Names of the complete preprocessed cases (their .pkl is written last) that start with `prefix`."""
    return sorted(path.stem for path in folder.glob(f"{prefix}*.pkl"))
