"""What a replica's stages are, read from the model repository's own config.pbtxt files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

Profile = Literal["cpu", "gpu"]
ENTRY = "spine_mri"
REPOSITORY = Path(__file__).parents[2] / "model_repository"
_CALLERS = ("segment", "report")
"""Stages that call a network while they hold their own place; which one, says their parameter ``network``."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The instances of one model and what waits before them.

    Attributes
    ----------
    instances : requests that are worked on at the same time
    max_waiting : one more is refused at once; None: never refused
    timeout_s : refused when its turn comes after so long; None: waits for ever
    prefetched : requests that Triton's batcher has taken out of the queue and laid ready before the
        instances; they count neither as waiting nor against the timeout
    on_gpu : works on the GPU instead of on the replica's cores
    network : the model it calls while it works, or None
    """

    name: str
    instances: int = 1
    max_waiting: int | None = None
    timeout_s: float | None = None
    prefetched: int = 0
    on_gpu: bool = False
    network: str | None = None


@dataclass(frozen=True)
class Topology:
    """A replica: the ensemble's stages in a study's order, and the networks that they call."""

    stages: tuple[Pool, ...]
    networks: tuple[Pool, ...] = ()

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All of them."""
        return (*self.stages, *self.networks)


def read_topology(repository: Path = REPOSITORY, *, profile: Profile = "cpu", entry: str = ENTRY) -> Topology:
    """The stages of the ensemble `entry`; in the CPU profile a model's ``configs/cpu.pbtxt`` wins.

    Raises
    ------
    ValueError
        The repository has no such ensemble.
    """
    ensemble = _config(repository, entry, profile)
    if not ensemble.ensemble_scheduling.step:
        raise ValueError(f"{entry} in {repository} is no ensemble: there are no stages to plan for.")
    stages = tuple(_pool(repository, step.model_name, profile) for step in ensemble.ensemble_scheduling.step)
    called = dict.fromkeys(stage.network for stage in stages if stage.network is not None)
    return Topology(stages, tuple(_pool(repository, name, profile) for name in called))


def _config(repository: Path, model: str, profile: Profile) -> Any:
    variant = repository / model / "configs" / f"{profile}.pbtxt"
    path = variant if variant.exists() else repository / model / "config.pbtxt"
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (OSError, text_format.ParseError) as error:
        raise ValueError(f"Cannot read the configuration of {model}: {error}") from None


def _pool(repository: Path, model: str, profile: Profile) -> Pool:
    config = _config(repository, model, profile)
    instances = sum(group.count or 1 for group in config.instance_group) or 1
    policy = config.dynamic_batching.default_queue_policy
    batched = config.HasField("dynamic_batching")
    return Pool(
        name=model,
        instances=instances,
        max_waiting=policy.max_queue_size or None,
        timeout_s=policy.default_timeout_microseconds / 1e6 or None,
        prefetched=instances if batched else 0,
        on_gpu=_on_gpu(config.instance_group, profile),
        network=config.parameters["network"].string_value if model in _CALLERS else None,
    )


def _on_gpu(groups: Sequence[Any], profile: Profile) -> bool:
    return profile == "gpu" and any(
        group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU for group in groups
    )
