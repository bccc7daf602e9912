"""The measurement CNN's checkpoint: weights, the patches they were trained on, readable with weights_only.

Format 1 had one trunk for both parts and one patch per disc. It cannot measure what is cut now, but a
training can begin with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from spine_training.measurement.network import PARTS, MeasurementNet
from spinecore.patches import DESCRIPTION, check_description

FORMAT = 2


def save(
    path: Path, network: MeasurementNet, *, notes: dict[str, Any] | None = None, half: bool = False
) -> None:
    """Write the weights (in float16 if `half`) and plain notes, aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {key: _halved(value) if half else value for key, value in network.state_dict().items()}
    aside = path.with_suffix(".part")
    content = {"format": FORMAT, "weights": weights, "patches": dict(DESCRIPTION), "notes": notes or {}}
    torch.save(content, aside)
    aside.replace(path)


def load(path: Path) -> MeasurementNet:
    """The network in evaluation mode. ModelError if it was trained on other patches than are cut."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    check_description({} if content["format"] == 1 else content["patches"])
    return _network(content["weights"])


def sees_what_is_cut(path: Path) -> bool:
    """Whether the network was trained on patches as they are cut now."""
    return bool(torch.load(path, map_location="cpu", weights_only=True).get("patches") == DESCRIPTION)


def load_to_begin_with(path: Path) -> MeasurementNet:
    """The network as a training's beginning, whatever the patches of its own training and format."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    return _network(_parted(content["weights"]) if content["format"] == 1 else content["weights"])


def notes(path: Path) -> dict[str, Any]:
    """What `save` was told beside the weights."""
    return dict(torch.load(path, map_location="cpu", weights_only=True)["notes"])


def _network(weights: dict[str, torch.Tensor]) -> MeasurementNet:
    network = MeasurementNet()
    network.load_state_dict(weights)
    return network.eval()


def _parted(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of format 1: the trunk for each part."""
    found = {key: value for key, value in weights.items() if key.startswith("target_")}
    for part in PARTS:
        for key, value in weights.items():
            layer, _, rest = key.partition(".")
            if name := {"blocks": "blocks", "shared": "hidden", part: "values"}.get(layer):
                found[f"parts.{part}.{name}.{rest}"] = value
    return found


def _halved(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() and value.numel() >= 1024 else value
