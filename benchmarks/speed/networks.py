"""The networks that are measured: nnU-Net results folders, and the same exported for SpineServe.

`demo` is the trained network of the checkout. `full` is the paper's: 32 to 320 feature maps, 20 classes, the
demo network's weights in a part of its maps and fixed random ones in the rest (`planted`). `width-K` is
the demo network's width with K classes and random weights, whose last layer is fitted to bands of smoothed
intensity by least squares: for time and memory alone, its labels are thin bands of near-ties.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from speed import planted, volumes
from spine_export import stages
from spine_export.describe import describe
from spine_export.images import image_of
from spine_export.networks import Precision, export_trained
from spine_export.nnunet_folder import TrainedNetwork, read_results_folder
from spinecore.geometry import Volume
from spinecore.network_spec import NetworkSpec
from spinecore.plan import Options
from spinecore.preprocessing import preprocess
from spinecore.tiling import tile_origins

ROOT = Path(__file__).resolve().parents[2]
DEMO_RESULTS = ROOT / "training" / "weights" / "nnunet"
CHECKPOINT = "checkpoint_final.pth"
NETWORKS = ("full", "demo")
FULL_CLASSES = 20
_FULL = "3d_fullres"
_WIDTH = re.compile(r"width-(\d+)")
_SEED = 20
_TURNING = ("architecture.py", "onnx_file.py", "half_graph.py", "int8.py", "config_files.py")
_SMOOTHING_VOXELS = 2.0
_LOGIT_SPREAD = 20.0
_RIDGE = 1e-3
_ANY_LOSS = 1.0  # untrained: what INT8 costs in time is asked, and layer after layer in float mends no labels


@dataclass(frozen=True)
class Shelf:
    """Where results folders and exported repositories are kept, and found again in the next run."""

    folder: Path

    def results(self, network: str) -> Path:
        """nnU-Net results folder of `network`, written on the first call."""
        if network == "demo":
            return DEMO_RESULTS
        folder = self.folder / network / f"results-{_recipe()}"
        if not (folder / "fold_0" / CHECKPOINT).is_file():
            for old in folder.parent.glob("results*"):
                shutil.rmtree(old)
            _write(folder, *_kind(network), cache=self.folder)
        return folder

    def trained(self, network: str) -> TrainedNetwork:
        """`network` as spine_export reads it."""
        return read_results_folder(self.results(network))

    def repository(self, network: str, precision: Precision) -> Path:
        """`network` exported in `precision`, once; stages and CNN are the checkout's, copied every time."""
        folder = self.folder / network / f"{precision}-{self._digest(network)}"
        if not (folder / "nnunet").is_dir():
            for old in folder.parent.glob(f"{precision}-*"):
                shutil.rmtree(old)
            folder.parent.mkdir(parents=True, exist_ok=True)
            trained = self.trained(network)
            images = [image_of(volumes.load(volumes.SMALL, cache=self.folder), trained.spec, "phantom")]
            export_trained(
                trained, repository=folder, precision=precision, calibration=images, max_dice_loss=_ANY_LOSS
            )
        there = [stage for stage in stages.ALL_STAGES if (folder / stage).is_dir()]
        cnn = stages.cnn_files() if (folder / stages.DEFAULT_CNN).is_dir() else {}
        for path, content in (stages.stage_files(there, stages.DEFAULT_NETWORK) | cnn).items():
            (folder / path).write_bytes(content)
        return folder

    def _digest(self, network: str) -> str:
        """Changes with the network's weights, and with the code that turns them into files."""
        digest = hashlib.sha256((self.results(network) / "fold_0" / CHECKPOINT).read_bytes())
        for name in _TURNING:
            digest.update((ROOT / "export" / "src" / "spine_export" / name).read_bytes())
        return digest.hexdigest()[:12]


def tiles(volume: Volume, spec: NetworkSpec) -> int:
    """How many tiles nnU-Net's predictor, and every mode that skips none, runs on `volume`."""
    shape = preprocess(volume, spec, Options()).plan.network_shape
    padded = tuple(max(side, patch) for side, patch in zip(shape, spec.patch_size, strict=True))
    z, y, x = padded
    return len(tile_origins((z, y, x), spec.patch_size, spec.step_size))


def patch_flops(trained: TrainedNetwork) -> int:
    """Floating-point operations of one patch (a multiplication and an addition are two)."""
    shape = (1, len(trained.spec.channels), *trained.spec.patch_size)
    network = trained.network.to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(shape, device="meta"))
    return int(counter.get_total_flops())


@cache
def _recipe() -> str:
    """Changes with the code that makes networks, and with the weights that it takes."""
    made_of = (Path(__file__), Path(planted.__file__), DEMO_RESULTS / "fold_0" / CHECKPOINT)
    return hashlib.sha256(b"".join(path.read_bytes() for path in made_of)).hexdigest()[:12]


def _kind(network: str) -> tuple[str, int]:
    """Configuration of the plans, and classes."""
    if network == "full":
        return _FULL, FULL_CLASSES
    if found := _WIDTH.fullmatch(network):
        return "3d_demo", int(found[1])
    raise ValueError(f"no network is called {network!r}")


def _write(folder: Path, configuration: str, classes: int, *, cache: Path) -> None:
    """A results folder with the plans of the checkout's demo network and fixed weights."""
    plans = json.loads((DEMO_RESULTS / "plans.json").read_text())
    dataset = json.loads((DEMO_RESULTS / "dataset.json").read_text())
    dataset["name"] = "weights for measuring"
    dataset["labels"] = {"background": 0} | {f"output {n}": n for n in range(1, classes)}
    network = _random_network(plans, dataset, configuration)
    spec = describe(plans, dataset, configuration, name="nnunet")
    prepared = preprocess(volumes.load(volumes.SMALL, cache=cache), spec)
    patch = _patch(prepared.data[0], spec.patch_size)
    if configuration == _FULL:
        planted.plant(network, read_results_folder(DEMO_RESULTS).network, torch.from_numpy(patch)[None, None])
    else:
        _fit_last_layer(network, patch, classes)
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    for name, content in (("plans.json", plans), ("dataset.json", dataset)):
        (folder / name).write_text(json.dumps(content, indent=2))
    state = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"plans": plans, "configuration": configuration, "fold": 0, "dataset_json": dataset},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(state, folder / "fold_0" / CHECKPOINT)


def _random_network(plans: dict[str, Any], dataset: dict[str, Any], configuration: str) -> nn.Module:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    heads = manager.get_label_manager(dataset).num_segmentation_heads
    torch.manual_seed(_SEED)
    network: nn.Module = nnUNetTrainer.build_network_architecture(
        manager, manager.get_configuration(configuration), 1, heads, enable_deep_supervision=True
    )
    return network


def _fit_last_layer(network: nn.Module, patch: np.ndarray[Any, np.dtype[np.float32]], classes: int) -> None:
    """Least squares from the last feature maps to `classes` bands of smoothed intensity, on `patch`."""
    decoder: Any = network.decoder
    decoder.deep_supervision = False
    seen: list[torch.Tensor] = []
    last: nn.Conv3d = decoder.seg_layers[-1]
    hook = last.register_forward_hook(lambda _module, given, _out: seen.append(given[0]))
    with torch.no_grad():
        network.eval()(torch.from_numpy(patch)[None, None])
    hook.remove()
    features = seen[0][0].flatten(1).T.double()
    features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    smooth = ndimage.gaussian_filter(patch, _SMOOTHING_VOXELS).reshape(-1)
    bands = np.digitize(smooth, np.quantile(smooth, np.linspace(0, 1, classes + 1)[1:-1]))
    wanted = nn.functional.one_hot(torch.from_numpy(bands), classes).double()
    gram = features.T @ features + _RIDGE * len(features) * torch.eye(features.shape[1])
    solved = _LOGIT_SPREAD * torch.linalg.solve(gram, features.T @ wanted).float()
    last.weight.data.copy_(solved[:-1].T[:, :, None, None, None])
    assert last.bias is not None
    last.bias.data.copy_(solved[-1])
    decoder.deep_supervision = True


def _patch(data: np.ndarray[Any, Any], size: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    pads = [(0, max(0, side - n)) for side, n in zip(size, data.shape, strict=True)]
    padded = np.pad(data, pads, mode="symmetric")
    z, y, x = (
        slice((n - side) // 2, (n - side) // 2 + side) for side, n in zip(size, padded.shape, strict=True)
    )
    return np.ascontiguousarray(padded[z, y, x])
