"""What must be known about a segmentation network to feed it and to read its answer: `network.json`.

The exporter writes this file beside the network from nnU-Net's plans, dataset.json and checkpoint; the
server's Python models and the tests read it. Axis orders are nnU-Net's: arrays (C, Z, Y, X) as the image
reader gives them, then `transpose_forward`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from spinecore.errors import ModelError

FORMAT = 1
READERS = ("reorient_ras", "as_is")
NORMALIZATIONS = (
    "ZScoreNormalization",
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
RESAMPLING_KINDS = ("default", "torch")
ANISOTROPY_THRESHOLD = 3.0
MAX_OUTPUTS = 255
MAX_FOLDS = 64
_INTEGER_LISTS = (
    "transpose_forward",
    "transpose_backward",
    "patch_size",
    "mirror_axes",
    "regions_class_order",
)
_CT_INTENSITY = {"mean", "std", "percentile_00_5", "percentile_99_5"}

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]
LabelValue = int | tuple[int, ...]


@dataclass(frozen=True)
class Channel:
    """One input channel: its name and how nnU-Net normalises it.

    `intensity` holds the plans' foreground intensity properties (mean, std, percentile_00_5,
    percentile_99_5, …); only ``CTNormalization`` needs them.
    """

    name: str
    normalization: str
    use_mask: bool = False
    intensity: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Resampling:
    """How arrays change their grid.

    `kind` ``"default"`` is nnU-Net's ``resample_data_or_seg_to_shape`` (splines of `order`; `order_z` across
    slices when the low-resolution axis is done apart), ``"torch"`` its ``resample_torch_fornnunet``
    (trilinear; nearest-exact across slices; the orders do not matter then).
    `force_separate_z` None lets the spacings decide: apart when max/min > `anisotropy_threshold`.
    """

    kind: str = "default"
    order: int = 1
    order_z: int = 0
    force_separate_z: bool | None = None
    anisotropy_threshold: float = ANISOTROPY_THRESHOLD


@dataclass(frozen=True)
class NetworkSpec:
    """Everything pre- and post-processing need to know about one network.

    Attributes
    ----------
    name, version, sha256, trained_on, description
        Provenance; `sha256` is that of the ONNX file.
    reader
        ``"reorient_ras"``: arrays are turned to axes (S, A, R) first (nnU-Net's NibabelIOWithReorient);
        ``"as_is"``: taken as they are stored.
    transpose_forward, transpose_backward
        Axis permutations of the spatial axes, as in the plans.
    spacing_mm, patch_size
        In the network's axes (after `transpose_forward`).
    labels
        Name -> number, or -> several numbers (a region), as in dataset.json.
    regions_class_order
        Numbers painted, in order, where regions overlap; None for ordinary labels.
    num_outputs
        Channels of the logits.
    folds
        Networks in the file whose logits it gives one behind another, (folds · num_outputs, Z, Y, X); their
        mean is taken after merging, as nnU-Net does. 1 where the file itself gives one answer.
    mirror_axes
        Spatial axes (0, 1, 2) the network may be mirrored along at inference.
    mirroring
        Whether it is, where a request does not say.
    precision
        Of the exported file: ``"fp32"``, ``"fp16"`` or ``"int8"``; empty where nobody said.
    sources
        SHA-256 of the files it was made from, by their place in nnU-Net's results folder.
    roles
        Class number -> role in the spine (``"vertebra"``, ``"disc"``, …); empty for other models.
    """

    name: str
    spacing_mm: Spacing
    patch_size: Triple
    channels: tuple[Channel, ...]
    labels: Mapping[str, LabelValue]
    num_outputs: int
    version: str = "1"
    sha256: str = ""
    trained_on: str = ""
    description: str = ""
    reader: str = "as_is"
    transpose_forward: Triple = (0, 1, 2)
    transpose_backward: Triple = (0, 1, 2)
    resampling_data: Resampling = Resampling(order=3)
    resampling_logits: Resampling = Resampling(order=1)
    regions_class_order: tuple[int, ...] | None = None
    ignore_label: int | None = None
    mirror_axes: tuple[int, ...] = ()
    step_size: float = 0.5
    mirroring: bool = False
    precision: str = ""
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    roles: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    folds: int = 1

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ModelError(f"The network description {self.name!r} is unusable: {problem}")

    @property
    def has_regions(self) -> bool:
        """Whether outputs are overlapping regions (sigmoid each) instead of exclusive classes."""
        return self.regions_class_order is not None

    @property
    def network_channels(self) -> int:
        """Channels of what the network file gives, all folds counted."""
        return self.num_outputs * self.folds

    @classmethod
    def from_json(cls, text: str | bytes) -> NetworkSpec:
        """Read the JSON text of a `network.json`; ModelError says what is wrong with it."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"The network description is not valid JSON: {error}") from None
        if not isinstance(content, dict):
            raise ModelError("The network description must be a JSON object.")
        return _from_dict(content)

    def to_json(self) -> str:
        """JSON text that `from_json` reads back as an equal spec; stable, so that files can be compared."""
        content = {"format": FORMAT, **_plain(self)}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, path: str | Path) -> NetworkSpec:
        """Read `network.json` from disk."""
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            reason = error.strerror or "unreadable"
            raise ModelError(f"Cannot read the network description {Path(path).name}: {reason}.") from None
        return cls.from_json(text)


def _plain(spec: NetworkSpec) -> dict[str, Any]:
    """Field name -> JSON-able value, in the order of the dataclass."""
    content = {f.name: getattr(spec, f.name) for f in fields(spec)}
    content["channels"] = [{**vars(c), "intensity": dict(c.intensity)} for c in spec.channels]
    content["resampling_data"] = asdict(spec.resampling_data)
    content["resampling_logits"] = asdict(spec.resampling_logits)
    content["labels"] = dict(spec.labels)
    content["sources"] = dict(spec.sources)
    content["roles"] = {str(number): role for number, role in spec.roles.items()}
    return content


_RecordT = TypeVar("_RecordT", Channel, Resampling)


def _record(kind: type[_RecordT], content: object, where: str) -> _RecordT:
    """Build a small dataclass from a JSON object, refusing unknown and missing keys."""
    if not isinstance(content, dict):
        raise ModelError(f"The network description's {where} must be a JSON object.")
    try:
        return kind(**content)
    except TypeError as error:
        raise ModelError(f"The network description's {where} does not fit: {error}") from None


def _from_dict(content: dict[str, Any]) -> NetworkSpec:
    if content.get("format") != FORMAT:
        found = content.get("format")
        raise ModelError(f"The network description must have format {FORMAT}; it has {found!r}.")
    values = {key: value for key, value in content.items() if key != "format"}
    try:
        _convert(values)
        return NetworkSpec(**values)
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"The network description does not fit: {error}") from None


def _convert(values: dict[str, Any]) -> None:
    """Turn JSON's lists and objects into the dataclass's types, in place."""
    for key in _INTEGER_LISTS:
        if values.get(key) is not None:
            values[key] = tuple(int(v) for v in values[key])
    if "spacing_mm" in values:
        values["spacing_mm"] = tuple(float(v) for v in values["spacing_mm"])
    if "channels" in values:
        values["channels"] = tuple(_record(Channel, c, "channels") for c in values["channels"])
    for key in ("resampling_data", "resampling_logits"):
        if key in values:
            values[key] = _record(Resampling, values[key], key)
    if "labels" in values:
        items = values["labels"].items()
        values["labels"] = {k: tuple(v) if isinstance(v, list) else int(v) for k, v in items}
    if "sources" in values:
        values["sources"] = {str(name): str(digest) for name, digest in values["sources"].items()}
    if "roles" in values:
        values["roles"] = {int(number): str(role) for number, role in values["roles"].items()}


def _problems(spec: NetworkSpec) -> list[str]:
    """What is wrong with `spec`, as sentences; empty when it can be used."""
    return _grid_problems(spec) + _channel_problems(spec) + _output_problems(spec)


def _grid_problems(spec: NetworkSpec) -> list[str]:
    found = []
    if len(spec.patch_size) != 3 or not all(0 < n <= 1024 for n in spec.patch_size):
        found.append(f"patch_size must be three sizes between 1 and 1024, not {list(spec.patch_size)}.")
    if len(spec.spacing_mm) != 3 or not all(math.isfinite(s) and s > 0 for s in spec.spacing_mm):
        found.append(f"spacing_mm must be three positive lengths, not {list(spec.spacing_mm)}.")
    forward, backward = spec.transpose_forward, spec.transpose_backward
    if sorted(forward) != [0, 1, 2] or any(list(backward).count(a) != 1 for a in range(3)):
        found.append("transpose_forward and transpose_backward must be permutations of 0, 1, 2.")
    elif [forward[axis] for axis in backward] != [0, 1, 2]:
        found.append("transpose_backward must undo transpose_forward.")
    if spec.reader not in READERS:
        found.append(f"reader must be one of {', '.join(READERS)}, not {spec.reader!r}.")
    if any(axis not in (0, 1, 2) for axis in spec.mirror_axes) or _repeats(spec.mirror_axes):
        found.append(f"mirror_axes must be different axes out of 0, 1, 2, not {list(spec.mirror_axes)}.")
    if spec.mirroring not in (True, False) or (spec.mirroring and not spec.mirror_axes):
        found.append("mirroring must be false, or true with axes to mirror along in mirror_axes.")
    if not 0 < spec.step_size <= 1:
        found.append(f"step_size must be above 0 and at most 1, not {spec.step_size}.")
    for name in ("resampling_data", "resampling_logits"):
        found += _resampling_problems(name, getattr(spec, name))
    return found


def _resampling_problems(name: str, resampling: Resampling) -> list[str]:
    if resampling.kind not in RESAMPLING_KINDS:
        return [f"{name}.kind must be one of {', '.join(RESAMPLING_KINDS)}, not {resampling.kind!r}."]
    if resampling.order not in range(6) or resampling.order_z not in range(6):
        return [f"{name}.order and order_z must be spline orders from 0 to 5."]
    if resampling.force_separate_z not in (None, True, False):
        return [f"{name}.force_separate_z must be true, false or null."]
    return []


def _channel_problems(spec: NetworkSpec) -> list[str]:
    if not spec.channels:
        return ["it has no input channels."]
    found = []
    for channel in spec.channels:
        if channel.normalization not in NORMALIZATIONS:
            known = ", ".join(NORMALIZATIONS)
            found.append(f"normalisation {channel.normalization!r} is not one of nnU-Net's ({known}).")
        missing = ", ".join(sorted(_CT_INTENSITY - set(channel.intensity)))
        if channel.normalization == "CTNormalization" and missing:
            found.append(f"channel {channel.name!r} lacks the intensity properties {missing}.")
    return found


def _output_problems(spec: NetworkSpec) -> list[str]:
    if spec.labels.get("background") != 0:
        return ["labels must name the background as 0."]
    if not 1 <= spec.num_outputs <= MAX_OUTPUTS:
        return [f"num_outputs must be between 1 and {MAX_OUTPUTS}, not {spec.num_outputs}."]
    if not isinstance(spec.folds, int) or not 1 <= spec.folds <= MAX_FOLDS:
        return [f"folds must be between 1 and {MAX_FOLDS}, not {spec.folds}."]
    values = [value for name, value in spec.labels.items() if name != "ignore"]
    regions = any(isinstance(value, tuple) and len(value) > 1 for value in values)
    if regions != spec.has_regions:
        return ["regions_class_order must be given if, and only if, some label is a region."]
    if spec.regions_class_order is not None:
        painted = spec.regions_class_order
        if len(painted) != spec.num_outputs or any(not 0 <= n <= 255 for n in painted):
            return [f"regions_class_order must be {spec.num_outputs} numbers from 0 to 255."]
        return []
    numbers = sorted({value if isinstance(value, int) else value[0] for value in values})
    if numbers != list(range(spec.num_outputs)):
        return [f"labels must be 0 to {spec.num_outputs - 1} for {spec.num_outputs} outputs, not {numbers}."]
    return []


def _repeats(values: tuple[int, ...]) -> bool:
    return len(set(values)) != len(values)
