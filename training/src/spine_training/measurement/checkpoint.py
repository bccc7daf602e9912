"""The measurement CNN's checkpoint: weights and what they were trained on, readable with weights_only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from spine_training.measurement.network import PARTS, MeasurementNet

FORMAT = 2


def save(
    path: Path, network: MeasurementNet, *, notes: dict[str, Any] | None = None, half: bool = False
) -> None:
    """Write the weights (in float16 if `half`) and plain notes, aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {key: _halved(value) if half else value for key, value in network.state_dict().items()}
    aside = path.with_suffix(".part")
    torch.save({"format": FORMAT, "weights": weights, "notes": notes or {}}, aside)
    aside.replace(path)


def load(path: Path) -> MeasurementNet:
    """The network in evaluation mode."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    network = MeasurementNet()
    network.load_state_dict(_parted(content["weights"]) if content["format"] == 1 else content["weights"])
    return network.eval()


def notes(path: Path) -> dict[str, Any]:
    """What `save` was told beside the weights."""
    return dict(torch.load(path, map_location="cpu", weights_only=True)["notes"])


def _parted(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of format 1, where both parts had one trunk: each gets it, and all answers stay what they were."""
    found = {key: value for key, value in weights.items() if key.startswith("target_")}
    for part in PARTS:
        for key, value in weights.items():
            layer, _, rest = key.partition(".")
            if name := {"blocks": "blocks", "shared": "hidden", part: "values"}.get(layer):
                found[f"parts.{part}.{name}.{rest}"] = value
    return found


def _halved(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() and value.numel() >= 1024 else value
