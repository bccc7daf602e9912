"""The plans: nnU-Net's own planner, then fixed to the paper's patch and spacing, with two widths.

``3d_fullres`` is the paper's network (32 to 320 feature maps). ``3d_demo`` inherits everything from it but
the width: 8 to 128 feature maps and one convolution per decoder stage, so that it trains and runs on a CPU.
Both share the preprocessed data.
"""

from __future__ import annotations

import json
import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from spine_training.workspace import (
    DATASET_ID,
    DEMO_CONFIGURATION,
    PAPER_CONFIGURATION,
    PLANS,
    Workspace,
)

SPACING_MM = (1.25, 1.25, 1.25)
PATCH_SIZE = (128, 128, 64)  # axes (superior, anterior, right), as NibabelIOWithReorient gives them
BATCH_SIZE = 2
PAPER_FEATURES = (32, 64, 128, 256, 320, 320)
DEMO_FEATURES = (16, 32, 64, 128, 128, 128)
STRIDES = ((1, 1, 1), *((2, 2, 2),) * 4, (2, 2, 1))
KERNEL = (3, 3, 3)


class NetworkSizeError(ValueError):
    """A patch, widths or weights that no network of this make can have."""


@dataclass(frozen=True)
class NetworkSize:
    """What may be chosen about the plans: the patch (S, A, R) in voxels, and the demo network's widths."""

    patch: tuple[int, ...] = PATCH_SIZE
    demo_features: tuple[int, ...] = DEMO_FEATURES

    def __post_init__(self) -> None:
        """Refuse what the network's strides cannot halve."""
        stages = len(self.demo_features)
        if not 2 <= stages <= len(STRIDES):
            raise NetworkSizeError(f"a network has 2 to {len(STRIDES)} stages, got {stages} widths")
        steps = [math.prod(stride[axis] for stride in STRIDES) for axis in range(3)]
        if len(self.patch) != 3 or any(side % step for side, step in zip(self.patch, steps, strict=True)):
            raise NetworkSizeError(f"a patch's sides must be multiples of {steps}, got {list(self.patch)}")


def make_plans(workspace: Workspace, size: NetworkSize | None = None) -> dict[str, Any]:
    """Run nnU-Net's fingerprint and planner on the raw dataset, fix the plans, and write them."""
    size = size or NetworkSize()
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
        DatasetFingerprintExtractor,
    )
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )

    DatasetFingerprintExtractor(DATASET_ID, num_processes=1).run(overwrite_existing=True)
    planner = ExperimentPlanner(
        DATASET_ID, plans_name=PLANS, overwrite_target_spacing=list(SPACING_MM), suppress_transpose=True
    )
    planner.plan_experiment()
    plans = fixed_plans(
        json.loads(workspace.plans_file.read_text()), patch_size=size.patch, demo_features=size.demo_features
    )
    write_plans(workspace, plans)
    return plans


def write_plans(workspace: Workspace, plans: dict[str, Any]) -> None:
    """Write the plans where nnU-Net looks for them."""
    workspace.plans_file.write_text(json.dumps(plans, indent=2) + "\n")


def fixed_plans(
    plans: dict[str, Any],
    *,
    patch_size: tuple[int, ...] = PATCH_SIZE,
    demo_features: tuple[int, ...] = DEMO_FEATURES,
) -> dict[str, Any]:
    """nnU-Net's plans with our patch, batch and widths, and only the two 3D configurations."""
    fixed = deepcopy(plans)
    paper = fixed["configurations"][PAPER_CONFIGURATION]
    paper["spacing"] = list(SPACING_MM)
    paper["patch_size"] = list(patch_size)
    paper["batch_size"] = BATCH_SIZE
    paper["batch_dice"] = False
    paper["normalization_schemes"] = ["ZScoreNormalization"]
    paper["use_mask_for_norm"] = [False]
    architecture = paper["architecture"]
    architecture["arch_kwargs"].update(_topology(PAPER_FEATURES, decoder_convolutions=2))
    demo = deepcopy(architecture)
    demo["arch_kwargs"].update(_topology(demo_features, decoder_convolutions=1))
    fixed["configurations"] = {
        PAPER_CONFIGURATION: paper,
        DEMO_CONFIGURATION: {"inherits_from": PAPER_CONFIGURATION, "architecture": demo},
    }
    return fixed


def _topology(features: tuple[int, ...], *, decoder_convolutions: int) -> dict[str, Any]:
    stages = len(features)
    return {
        "n_stages": stages,
        "features_per_stage": list(features),
        "kernel_sizes": [list(KERNEL)] * stages,
        "strides": [list(stride) for stride in STRIDES[:stages]],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [decoder_convolutions] * (stages - 1),
    }
