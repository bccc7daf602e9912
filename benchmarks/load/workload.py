"""What is sent, how often and for how long: workload files, read and checked.

`workload.schema.json` beside this file says what a file may hold; what a schema cannot say is checked here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from spinecore.phantom import PhantomConfig

HOUR_S = 3600.0
DAY_H = 24
_BEST = jsonschema.exceptions.best_match


class WorkloadError(ValueError):
    """A workload or SLO file that cannot be used; the message names the place in it."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of a run.

    Attributes
    ----------
    seconds : how long it lasts
    level : offered load at its start and end. Open loop: volumes per second where `relative` is False, else
        multiples of the capacity that calibration finds. Closed loop: (0, 0)
    callers, think_s : closed loop: how many send, each waiting for its answer, and the pause before its next
    warm_up : left out of every figure
    saturates : the server is meant to fall short here; nothing is judged
    """

    name: str
    seconds: float
    level: tuple[float, float] = (0.0, 0.0)
    relative: bool = False
    callers: int = 0
    think_s: float = 0.0
    warm_up: bool = False
    saturates: bool = False

    def scaled(self, capacity_per_s: float) -> Phase:
        """With `level` in volumes per second."""
        if not self.relative:
            return self
        low, high = self.level
        return replace(self, level=(low * capacity_per_s, high * capacity_per_s), relative=False)


@dataclass(frozen=True, kw_only=True)
class VolumeKind:
    """Volumes to send: a kind of phantom, drawn `count` times, or one DICOM folder. `weight`: its share."""

    name: str
    weight: float = 1.0
    count: int = 1
    phantom: PhantomConfig | None = None
    dicom: Path | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A workload file. `phases` are all open loop (levels) or all closed loop (callers)."""

    name: str
    about: str
    seed: int
    poisson: bool
    timeout_s: float
    attempts: int
    calibrating_callers: int
    calibrating_requests: int
    phases: tuple[Phase, ...]
    volumes: tuple[VolumeKind, ...]

    @property
    def is_open(self) -> bool:
        """Whether volumes are sent by a schedule, whether answers have come or not."""
        return self.phases[0].callers == 0

    @property
    def needs_capacity(self) -> bool:
        """Whether levels are multiples of what the server can do, which must be measured first."""
        return any(phase.relative for phase in self.phases)

    @property
    def seconds(self) -> float:
        """Length of all phases together."""
        return sum(phase.seconds for phase in self.phases)

    def scaled(self, capacity_per_s: float) -> Workload:
        """With all levels in volumes per second."""
        return replace(self, phases=tuple(phase.scaled(capacity_per_s) for phase in self.phases))


def read_workload(path: Path, *, compress: float | None = None) -> Workload:
    """Read a workload file; `compress` overrides that of its `day`. Raises `WorkloadError`."""
    content = read_yaml(path, _schema())
    if ("phases" in content) == ("day" in content):
        raise WorkloadError(f"{path.name}: expected either phases or day, and not both")
    if compress is not None and "day" not in content:
        raise WorkloadError(f"{path.name}: only a day can be compressed; this file has phases")
    day = {**content.get("day", {}), **({} if compress is None else {"compress": compress})}
    phases = _day(day) if day else [_phase(each, n) for n, each in enumerate(content["phases"])]
    _check_phases(phases, path.name)
    calibrate = content.get("calibrate", {})
    return Workload(
        name=content["name"],
        about=content.get("about", ""),
        seed=content.get("seed", 1),
        poisson=content.get("arrivals", "poisson") == "poisson",
        timeout_s=content.get("timeout_s", 120.0),
        attempts=content.get("attempts", 1),
        calibrating_callers=calibrate.get("callers", 2),
        calibrating_requests=calibrate.get("requests", 8),
        phases=tuple(phases),
        volumes=tuple(_kind(each, n, path) for n, each in enumerate(content["volumes"])),
    )


def read_yaml(path: Path, schema: dict[str, Any]) -> dict[str, Any]:
    """The content of a YAML file that follows `schema`. Raises `WorkloadError`: the place and the rule."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise WorkloadError(f"{path.name} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise WorkloadError(f"{path.name}{where}: this is not YAML") from None
    broken = _BEST(jsonschema.Draft202012Validator(schema).iter_errors(content))
    if broken is not None:
        place = broken.json_path.removeprefix("$").removeprefix(".") or "the file"
        raise WorkloadError(f"{path.name}: {place}: {broken.message}")
    return dict(content)


@cache
def _schema() -> dict[str, Any]:
    return dict(json.loads(Path(__file__).with_name("workload.schema.json").read_text("utf-8")))


def _phase(content: dict[str, Any], number: int) -> Phase:
    levels = [key for key in ("load", "rate_per_hour", "callers") if key in content]
    if len(levels) != 1:
        raise WorkloadError(f"phases[{number}]: expected one of load, rate_per_hour, callers; got {levels}")
    if "think_s" in content and "callers" not in content:
        raise WorkloadError(f"phases[{number}]: think_s belongs to callers")
    level = content.get("load", content.get("rate_per_hour", 0.0))
    low, high = level if isinstance(level, list) else (level, level)
    unit_s = HOUR_S if "rate_per_hour" in content else 1.0
    return Phase(
        name=content.get("name", f"phase {number + 1}"),
        seconds=content["for_s"],
        level=(low / unit_s, high / unit_s),
        relative="load" in content,
        callers=content.get("callers", 0),
        think_s=content.get("think_s", 0.0),
        warm_up=content.get("warm_up", False),
        saturates=content.get("saturates", False),
    )


def _day(content: dict[str, Any]) -> list[Phase]:
    """The hours of a day, each shortened by `compress`. The rates stay as they are: the server is as busy as
    on that day, for a shorter time. With `peak_load` the curve keeps its form, and the busiest hour is that
    multiple of what the server can do: the day of a site that a server of this size belongs to."""
    first, last = content.get("from_hour", 0), content.get("to_hour", DAY_H)
    if first >= last:
        raise WorkloadError(f"day: from_hour ({first}) must come before to_hour ({last})")
    shares = content["hours"]
    if sum(shares[first:last]) <= 0:
        raise WorkloadError("day.hours: nothing is sent between from_hour and to_hour")
    seconds = HOUR_S / content.get("compress", 1.0)
    relative = "peak_load" in content
    unit = content["peak_load"] / max(shares) if relative else content["studies"] / sum(shares) / HOUR_S
    levels = [unit * share for share in shares]
    return [
        Phase(name=f"{hour:02d}:00", seconds=seconds, level=(levels[hour], levels[hour]), relative=relative)
        for hour in range(first, last)
    ]


def _check_phases(phases: list[Phase], where: str) -> None:
    if len({phase.callers == 0 for phase in phases}) != 1:
        raise WorkloadError(f"{where}: phases with callers (closed loop) and without (open loop) do not mix")
    if len({phase.name for phase in phases}) != len(phases):
        raise WorkloadError(f"{where}: two phases have the same name")
    if all(phase.warm_up for phase in phases):
        raise WorkloadError(f"{where}: every phase is warm_up, so nothing would be measured")


def _kind(content: dict[str, Any], number: int, path: Path) -> VolumeKind:
    place = f"{path.name}: volumes[{number}]"
    if ("phantom" in content) == ("dicom" in content):
        raise WorkloadError(f"{place}: expected either phantom or dicom, and not both")
    shared = {"weight": content.get("weight", 1.0)}
    if "dicom" in content:
        if "count" in content:
            raise WorkloadError(f"{place}: count belongs to phantom; a folder is one volume")
        folder = (path.parent / Path(content["dicom"]).expanduser()).resolve()
        return VolumeKind(name=content.get("name", f"series {number + 1}"), dicom=folder, **shared)
    settings: dict[str, Any] = {"seed": 920_000 + 100 * number, "contrast": "t2", **content["phantom"]}
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    try:
        config = PhantomConfig(**settings)
    except ValueError as error:
        raise WorkloadError(f"{place}.phantom: {error}") from None
    name = content.get("name", f"{config.region} {number + 1}")
    return VolumeKind(name=name, phantom=config, count=content.get("count", 1), **shared)
