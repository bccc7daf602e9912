"""Service times: what one study takes each stage of a replica that has nothing else to do.

The file is JSON, written by ``plan.py measure``:

.. code-block:: json

    {"kind": "spineserve service times", "machine": "…", "date": "…", "profile": "cpu", "cores": 1,
     "ready_s": 9.8, "neighbour_slowdown": 1.0,
     "volumes": [{"name": "…", "weight": 1.0,
                  "studies": [{"client_s": 0.02, "stages": {"preprocess": 0.02, "segment": 0.4},
                               "networks": {"nnunet": {"calls": 1, "seconds": 0.3}},
                               "cpu": {"preprocess": 0.02, "segment": 0.1, "nnunet": 0.28}}]}]}

Stages include the networks that they call; `cpu` does not, and is left out where the server's processes
cannot be seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from planning.replica import Kind, Replica, Step, Way
from planning.topology import Pool, Profile, Topology

KIND = "spineserve service times"
TRITON = "tritonserver"
"""In `StudyTimes.cpu`: what is used beside the models' processes, for transfer and glue."""


@dataclass(frozen=True)
class NetworkTimes:
    """All calls of a network for one study."""

    calls: int
    seconds: float


@dataclass(frozen=True)
class StudyTimes:
    """One study, alone on a replica, in seconds.

    Attributes
    ----------
    client_s : what the caller waited beyond the stages: transfer, Triton's glue, reading the answer
    stages : by stage; a network's time is part of the stage that calls it
    networks : by network
    cpu : core-seconds of each model's own processes. What a stage took beyond them it has waited for
        something else than a core, which others may use meanwhile. A model that is not in it is held to have
        waited for nothing
    """

    client_s: float
    stages: Mapping[str, float]
    networks: Mapping[str, NetworkTimes] = field(default_factory=dict)
    cpu: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_s(self) -> float:
        """What the caller waited."""
        return self.client_s + sum(self.stages.values())


@dataclass(frozen=True)
class VolumeTimes:
    """One kind of volume, its share among all (any unit), and the studies that were measured."""

    name: str
    weight: float
    studies: tuple[StudyTimes, ...]


def mean_alone_s(volumes: Sequence[VolumeTimes]) -> float:
    """Seconds of a study, the mix of `volumes` considered, when it is alone."""
    whole = sum(volume.weight for volume in volumes)
    return sum(
        volume.weight / whole * float(np.mean([study.total_s for study in volume.studies]))
        for volume in volumes
    )


@dataclass(frozen=True)
class ServiceTimes:
    """All that was measured.

    Attributes
    ----------
    cores : those that the replica had
    ready_s : how long it took to start
    neighbour_slowdown : how many times longer work takes while another replica of the same machine, on cores
        of its own, is busy; 1 where replicas have machines of their own
    """

    machine: str
    date: str
    profile: Profile
    cores: int
    ready_s: float
    volumes: tuple[VolumeTimes, ...]
    neighbour_slowdown: float = 1.0

    @property
    def mean_s(self) -> float:
        """Of a study, the mix of volumes considered, when it is alone."""
        return mean_alone_s(self.volumes)

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_text(json.dumps({"kind": KIND, **asdict(self)}, indent=1) + "\n", encoding="utf-8")


def read_service_times(path: Path) -> ServiceTimes:
    """The file that `ServiceTimes.save` writes.

    Raises
    ------
    ValueError
        It is another kind of file, or something is missing in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["kind"] != KIND:
            raise ValueError(f"{path.name} is no file of service times; `plan.py measure` writes one.")
        volumes = tuple(_volume(each) for each in content["volumes"])
        names = ("machine", "date", "profile", "cores", "ready_s")
        return ServiceTimes(
            **{name: content[name] for name in names},
            volumes=volumes,
            neighbour_slowdown=float(content.get("neighbour_slowdown", 1.0)),
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} is no file of service times: {error!r}.") from None


def _volume(content: Mapping[str, object]) -> VolumeTimes:
    studies = content["studies"]
    assert isinstance(studies, list)
    return VolumeTimes(str(content["name"]), float(str(content["weight"])), tuple(map(_study, studies)))


def _study(content: Mapping[str, object]) -> StudyTimes:
    networks, stages = content["networks"], content["stages"]
    assert isinstance(networks, dict) and isinstance(stages, dict)
    called = {
        name: NetworkTimes(int(each["calls"]), float(each["seconds"])) for name, each in networks.items()
    }
    cpu = content.get("cpu", {})
    assert isinstance(cpu, dict)
    return StudyTimes(float(str(content["client_s"])), stages, called, cpu)


class Ways:
    """The ways that studies take through a replica, drawn from those that were measured."""

    def __init__(self, times: ServiceTimes, topology: Topology) -> None:
        self._ways = [
            [way_of(study, topology, cores=times.cores) for study in volume.studies]
            for volume in times.volumes
        ]
        weights = np.array([volume.weight for volume in times.volumes])
        self._shares = weights / weights.sum()

    def draw(
        self, count: int, rng: np.random.Generator, *, volumes: npt.NDArray[np.int64] | None = None
    ) -> list[Way]:
        """`count` ways, by the volumes' shares or of the `volumes` given: each a study that was measured."""
        if volumes is None:
            volumes = rng.choice(len(self._ways), size=count, p=self._shares)
        phase = rng.uniform(size=count)
        return [
            self._ways[volume][int(part * len(self._ways[volume]))]
            for volume, part in zip(volumes, phase, strict=True)
        ]


def way_of(study: StudyTimes, topology: Topology, *, cores: int) -> Way:
    """The steps of one study: each stage is held while it, and the network that it calls, work and wait."""
    index = {pool.name: number for number, pool in enumerate(topology.pools)}
    glue_s = min(study.cpu.get(TRITON, 0.0), study.client_s)
    steps = [Step(Kind.WORK, Replica.CPU, glue_s), Step(Kind.PAUSE, seconds=study.client_s - glue_s)]
    for stage in topology.stages:
        called = [
            pool for pool in topology.networks if pool.name == stage.network and pool.name in study.networks
        ]
        own_s = study.stages[stage.name] - sum(study.networks[pool.name].seconds for pool in called)
        steps.append(Step(Kind.TAKE, index[stage.name]))
        for pool in called:
            times = study.networks[pool.name]
            once = _spent(pool, times.seconds, study.cpu, threads=cores, parts=times.calls)
            steps += [
                Step(Kind.TAKE, index[pool.name]),
                *once,
                Step(Kind.GIVE, index[pool.name]),
            ] * times.calls
        steps += [*_spent(stage, max(own_s, 0.0), study.cpu), Step(Kind.GIVE, index[stage.name])]
    return tuple(step for step in steps if step.seconds > 0 or step.kind in (Kind.TAKE, Kind.GIVE))


def _spent(
    pool: Pool, seconds: float, cpu: Mapping[str, float], *, threads: int = 1, parts: int = 1
) -> list[Step]:
    """One of equal parts of what a model took: work, and what it waited for something else than a core."""
    if pool.on_gpu:
        return [Step(Kind.WORK, Replica.GPU, seconds / max(1, parts))]
    work_s = min(seconds, cpu.get(pool.name, seconds * threads) / threads)
    steps = [Step(Kind.WORK, Replica.CPU, work_s / max(1, parts), threads)]
    if seconds > work_s:
        steps.append(Step(Kind.PAUSE, seconds=(seconds - work_s) / max(1, parts)))
    return steps
