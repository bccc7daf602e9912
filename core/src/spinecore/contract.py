"""The tensors of every model in the repository, and how requests are read.

One table (`MODELS`) names all tensors with Triton's data types and dims; `config.pbtxt`, the Python models
and the client are held to it by tests. All payloads are flat and little-endian, C-ordered; every size is
checked before anything is allocated. Only UINT8 payloads have an open dimension: for wider types, and for
several dimensions, a byte count that wraps past 2^64 gets through Triton 2.51 and kills the Python stub.

Codes of the InputErrors raised here:

=================  ========================================================================
shape              SHAPE is not four positive sizes C, Z, Y, X
shape_limit        more voxels, channels or a longer side than the server takes
single_slice       one axis has only one voxel
too_small          an axis has fewer than `MIN_SIDE` voxels
dtype              DTYPE is none of int16, uint16, float32
byte_count         VOLUME has another length than SHAPE and DTYPE ask for
affine             AFFINE is not 16 finite numbers with last row 0 0 0 1
affine_singular    two of its axes coincide, or one has no length
affine_sheared     its axes are not at right angles
spacing            voxels or field of view of an impossible size
not_finite         NaN or infinite voxels
intensity          voxel values beyond ±`MAX_INTENSITY`
constant_image     all voxels of a channel are equal
options_…          OPTIONS too long (size), not JSON (json), unknown key (key), bad value (value)
too_large          the network's grid would have more voxels than the server takes
memory_limit       a stage would need more memory than the server gives one study
mode_unavailable   the mode asked for takes a network that this server does not run
data, plan         an inner tensor that `preprocess` did not write
run                an inner tensor that `segment` did not write
patches            an inner tensor that `identify` did not write
classes            a class map of another size than the volume
=================  ========================================================================
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spinecore.errors import InputError
from spinecore.geometry import Affine, Volume, spacing_zyx
from spinecore.network_spec import NetworkSpec
from spinecore.plan import MAX_NETWORK_VOXELS, MAX_SIDE, MAX_VOXELS, MODES, Plan, Prepared
from spinecore.plan import Options as Options

MAX_CHANNELS = 16
MIN_SIDE = 4
MIN_SPACING_MM, MAX_SPACING_MM = 0.02, 30.0
MAX_EXTENT_MM = 3000.0
MAX_OFFSET_MM = 1e6
MAX_SHEAR_COSINE = 0.01
MAX_INTENSITY = 1e20
MAX_OPTIONS_BYTES = 4096
DTYPES: dict[str, np.dtype[Any]] = {
    "int16": np.dtype("<i2"),
    "uint16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
}

Bytes = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[Any]


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model: Triton data type without ``TYPE_``, dims without the batch."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Model:
    """The tensors of one model of the repository."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch_size: int = 0


MEASURE_CHANNELS = 8
MEASURE_PATCH_SHAPE = (64, 64, 32)
NETWORK_BATCH = 4
MEASURE_BATCH = 32

VOLUME = Tensor("VOLUME", "UINT8", (-1,))
SHAPE = Tensor("SHAPE", "INT64", (4,))
DTYPE = Tensor("DTYPE", "BYTES", (1,))
AFFINE = Tensor("AFFINE", "FP64", (16,))
OPTIONS = Tensor("OPTIONS", "BYTES", (1,), optional=True)
LABELS = Tensor("LABELS", "UINT8", (-1, -1, -1))
REPORT = Tensor("REPORT", "BYTES", (1,))
DATA = Tensor("DATA", "UINT8", (-1,))
DATA_SHAPE = Tensor("DATA_SHAPE", "INT64", (4,))
PLAN = Tensor("PLAN", "BYTES", (1,))
CLASSES = Tensor("CLASSES", "UINT8", (-1,))
RUN = Tensor("RUN", "BYTES", (1,))
FINDINGS = Tensor("FINDINGS", "BYTES", (1,))
PATCHES = Tensor("PATCHES", "UINT8", (-1,))
ONE_PATCH = Tensor("PATCHES", "FP32", (MEASURE_CHANNELS, *MEASURE_PATCH_SHAPE))
ONE_HEIGHT = Tensor("DISC_HEIGHT_MM", "FP32", (4,))
ONE_CANAL_AP = Tensor("CANAL_AP_MM", "FP32", (1,))
LEFT = Tensor("LEFT", "BYTES", (1,), optional=True)
STATE = Tensor("STATE", "BYTES", (1,))
SECONDS = Tensor("SECONDS", "FP64", (1,))
STAGE_SECONDS = tuple(
    Tensor(f"{stage}_SECONDS", "FP64", (1,), optional=True) for stage in ("PREPROCESS", "SEGMENT", "IDENTIFY")
)

REQUEST = (VOLUME, SHAPE, DTYPE, AFFINE, OPTIONS)

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model("spine_mri", REQUEST, (LABELS, REPORT)),
        Model("preprocess", REQUEST, (DATA, DATA_SHAPE, PLAN, SECONDS)),
        Model("segmentation", REQUEST, (LABELS,)),
        Model("segment", (DATA, DATA_SHAPE, PLAN), (CLASSES, LABELS, RUN, SECONDS)),
        Model("identify", (*REQUEST, CLASSES), (LABELS, PATCHES, FINDINGS, SECONDS)),
        Model("measure_cnn", (ONE_PATCH,), (ONE_HEIGHT, ONE_CANAL_AP), MEASURE_BATCH),
        Model("attendant", (LEFT,), (STATE,)),
        Model("report", (FINDINGS, PATCHES, replace(RUN, optional=True), *STAGE_SECONDS), (REPORT,)),
    )
}
"""All models whose tensors do not depend on the network; `network_model` adds the network itself."""


def network_model(
    spec: NetworkSpec,
    *,
    name: str = "nnunet",
    max_batch_size: int = NETWORK_BATCH,
    logits_dtype: str = "FP16",
) -> Model:
    """The tensors of a segmentation network: PATCH (C, *patch) float32 -> LOGITS (folds · K, *patch).

    The logits are float16, or float32 (`logits_dtype` ``"FP32"``) where the network was exported in float32.
    """
    patch = Tensor("PATCH", "FP32", (len(spec.channels), *spec.patch_size))
    logits = Tensor("LOGITS", logits_dtype, (spec.network_channels, *spec.patch_size))
    return Model(name, (patch,), (logits,), max_batch_size)


def one_bytes(value: AnyArray | bytes | str) -> bytes:
    """The single element of a BYTES tensor of shape [1], however Triton's Python API hands it over."""
    if isinstance(value, np.ndarray):
        if value.size != 1:
            raise InputError("shape", f"Expected one string in a BYTES tensor, got {value.size}.")
        value = value.reshape(-1)[0]
    return value.encode() if isinstance(value, str) else bytes(value)


def decode_volume(voxels: Bytes, shape: AnyArray, dtype: AnyArray | bytes | str, affine: AnyArray) -> Volume:
    """Read the tensors VOLUME, SHAPE, DTYPE, AFFINE; the voxels are a view of `voxels`, not a copy.

    Raises InputError with one of the codes at the top of this file.
    """
    sizes = _decode_shape(shape)
    kind = _decode_dtype(dtype)
    _check_byte_count(voxels, sizes, kind)
    matrix = decode_affine(affine)
    _check_extent(matrix, sizes)
    array = np.ascontiguousarray(voxels).view(kind).reshape(sizes)
    _check_values(array)
    return Volume(array, matrix)


def encode_volume(volume: Volume) -> dict[str, AnyArray]:
    """The request tensors of `volume`, by name; its voxels must be int16, uint16 or float32."""
    kind = next((name for name, known in DTYPES.items() if known == volume.voxels.dtype), None)
    if kind is None:
        raise InputError("dtype", f"Voxels must be one of {', '.join(DTYPES)}, not {volume.voxels.dtype}.")
    return {
        VOLUME.name: np.ascontiguousarray(volume.voxels).reshape(-1).view(np.uint8),
        SHAPE.name: np.array(volume.voxels.shape, dtype=np.int64),
        DTYPE.name: np.array([kind.encode()], dtype=object),
        AFFINE.name: np.asarray(volume.affine, dtype=np.float64).reshape(16),
    }


def _decode_shape(shape: AnyArray) -> tuple[int, int, int, int]:
    sizes = [int(n) for n in np.asarray(shape).reshape(-1)[:5]]
    if len(sizes) != 4 or min(sizes) < 1:
        raise InputError("shape", f"SHAPE must be four positive sizes C, Z, Y, X; got {sizes}.")
    channels, *sides = sizes
    if channels > MAX_CHANNELS or max(sides) > MAX_SIDE or math.prod(sizes) > MAX_VOXELS:
        limits = f"{MAX_CHANNELS} channels, {MAX_SIDE} voxels per side, {MAX_VOXELS:,} voxels in all"
        raise InputError("shape_limit", f"The volume is too large: at most {limits}; SHAPE is {sizes}.")
    if min(sides) == 1:
        raise InputError("single_slice", f"A volume is needed, not a single slice; SHAPE is {sizes}.")
    if min(sides) < MIN_SIDE:
        raise InputError("too_small", f"Each side needs at least {MIN_SIDE} voxels; SHAPE is {sizes}.")
    return channels, sides[0], sides[1], sides[2]


def _decode_dtype(dtype: AnyArray | bytes | str) -> np.dtype[Any]:
    name = one_bytes(dtype)[:32].decode("ascii", errors="replace")
    if name not in DTYPES:
        raise InputError("dtype", f"DTYPE must be one of {', '.join(DTYPES)}; got {name!r}.")
    return DTYPES[name]


def _check_byte_count(voxels: Bytes, sizes: tuple[int, ...], kind: np.dtype[Any]) -> None:
    expected = math.prod(sizes) * kind.itemsize
    if voxels.dtype != np.uint8 or voxels.size != expected:
        want = f"SHAPE {list(sizes)} and DTYPE {kind.name} ask for {expected:,} bytes"
        raise InputError("byte_count", f"{want}; VOLUME holds {voxels.nbytes:,}.")


def decode_affine(affine: AnyArray) -> Affine:
    """Read the tensor AFFINE: (4, 4) float64, voxel index (x, y, z, 1) -> LPS mm, checked for sense."""
    values = np.array(affine, dtype=np.float64).reshape(-1)
    if values.size != 16 or not np.isfinite(values).all():
        raise InputError("affine", f"AFFINE must be 16 finite numbers; got {values.size} values.")
    matrix = values.reshape(4, 4)
    if not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-6, rtol=0) or np.abs(matrix).max() > MAX_OFFSET_MM:
        raise InputError("affine", "AFFINE must be row by row a 4×4 matrix in mm with last row 0 0 0 1.")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if lengths.min() < 1e-9 or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-3:
        raise InputError("affine_singular", "AFFINE is singular: its three axes must span space.")
    axes = matrix[:3, :3] / lengths
    cosines = np.abs(axes.T @ axes - np.eye(3)).max()
    if cosines > MAX_SHEAR_COSINE:
        raise InputError(
            "affine_sheared",
            f"AFFINE is sheared: its axes must be at right angles (cosine up to {MAX_SHEAR_COSINE}, "
            f"found {cosines:.3f}). Resample the volume to a straight grid first.",
        )
    return matrix


def _check_extent(affine: Affine, sizes: tuple[int, int, int, int]) -> None:
    spacing = spacing_zyx(affine)
    shown = " × ".join(f"{s:.4g}" for s in spacing)
    if min(spacing) < MIN_SPACING_MM or max(spacing) > MAX_SPACING_MM:
        allowed = f"from {MIN_SPACING_MM} to {MAX_SPACING_MM} mm"
        raise InputError("spacing", f"Voxel spacings must be {allowed}; AFFINE says {shown} mm (z, y, x).")
    if max(s * n for s, n in zip(spacing, sizes[1:], strict=True)) > MAX_EXTENT_MM:
        raise InputError(
            "spacing", f"The field of view exceeds {MAX_EXTENT_MM:.0f} mm; spacing is {shown} mm."
        )


def _check_values(voxels: AnyArray) -> None:
    for number, channel in enumerate(voxels):
        low, high = float(channel.min()), float(channel.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InputError("not_finite", f"Channel {number} holds NaN or infinite voxels.")
        if max(-low, high) > MAX_INTENSITY:
            raise InputError("intensity", f"Channel {number} holds values beyond ±{MAX_INTENSITY:g}.")
        if low == high:
            raise InputError(
                "constant_image", f"All voxels of channel {number} are equal: there is no image."
            )


def decode_options(options: AnyArray | bytes | str | None) -> Options:
    """Read the tensor OPTIONS: a JSON object with the fields of `Options`; None or empty means defaults."""
    text = b"" if options is None else one_bytes(options)
    if not text:
        return Options()
    if len(text) > MAX_OPTIONS_BYTES:
        expected = f"at most {MAX_OPTIONS_BYTES} bytes"
        raise InputError("options_size", f"OPTIONS may have {expected}; it has {len(text):,}.")
    try:
        content = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InputError("options_json", "OPTIONS must be UTF-8 text holding one JSON object.") from None
    if not isinstance(content, dict):
        raise InputError("options_json", f"OPTIONS must be a JSON object, not a {type(content).__name__}.")
    known = [f.name for f in fields(Options)]
    unknown = sorted(repr(key[:40]) for key in content if key not in known)
    if unknown:
        raise InputError(
            "options_key", f"Unknown options {', '.join(unknown)}; known are {', '.join(known)}."
        )
    return Options(**content)


def encode_prepared(prepared: Prepared) -> dict[str, AnyArray]:
    """The tensors DATA, DATA_SHAPE and PLAN, by name."""
    data = np.ascontiguousarray(prepared.data, dtype="<f4")
    return {
        DATA.name: data.reshape(-1).view(np.uint8),
        DATA_SHAPE.name: np.array(data.shape, dtype=np.int64),
        PLAN.name: np.array([prepared.plan.to_json().encode()], dtype=object),
    }


def decode_prepared(data: Bytes, data_shape: AnyArray, plan: AnyArray | bytes | str) -> Prepared:
    """Read the tensors DATA, DATA_SHAPE and PLAN; the data is a view. InputError ``data`` or ``plan``."""
    road_back = Plan.from_json(one_bytes(plan))
    sizes = tuple(int(n) for n in np.asarray(data_shape).reshape(-1)[:5])
    if len(sizes) != 4 or not 1 <= sizes[0] <= MAX_CHANNELS or sizes[1:] != road_back.network_shape:
        raise InputError(
            "data", f"DATA_SHAPE must be C and the plan's {road_back.network_shape}; got {sizes}."
        )
    expected = math.prod(sizes) * 4
    if data.dtype != np.uint8 or data.size != expected:
        raise InputError("data", f"DATA_SHAPE asks for {expected:,} bytes; DATA holds {data.nbytes:,}.")
    values = np.ascontiguousarray(data).view("<f4").reshape(sizes)
    if not np.isfinite(values).all():
        raise InputError("data", "DATA holds NaN or infinite values.")
    return Prepared(values, road_back)


def encode_classes(classes: Bytes) -> dict[str, AnyArray]:
    """The tensors CLASSES and LABELS from a class map (Z, Y, X), by name: the same bytes, flat and shaped."""
    shaped = np.ascontiguousarray(classes, dtype=np.uint8)
    return {CLASSES.name: shaped.reshape(-1), LABELS.name: shaped}


@dataclass(frozen=True)
class Run:
    """How one volume was segmented, for the report.

    Attributes
    ----------
    mode, network : as asked for, and the model that answered
    tiles, tiles_run, coarse_tiles : that nnU-Net would run, that ran, and that a scout ran to choose them
    """

    mode: str
    network: str
    tiles: int
    tiles_run: int
    coarse_tiles: int

    def __post_init__(self) -> None:
        counts = (self.tiles, self.tiles_run, self.coarse_tiles)
        names = isinstance(self.network, str) and self.mode in MODES
        if not names or not all(type(n) is int and 0 <= n <= MAX_NETWORK_VOXELS for n in counts):
            raise InputError("run", "The tensor RUN is not what `segment` wrote.")


def encode_run(run: Run) -> dict[str, AnyArray]:
    """The tensor RUN, by name."""
    return {RUN.name: np.array([json.dumps(asdict(run)).encode()], dtype=object)}


def decode_run(run: AnyArray | bytes | str | None) -> dict[str, Any] | None:
    """Read the tensor RUN as the report states it; None where it was left out. InputError ``run``."""
    if run is None:
        return None
    try:
        return asdict(Run(**json.loads(one_bytes(run))))
    except (ValueError, TypeError, RecursionError):
        raise InputError("run", "The tensor RUN is not what `segment` wrote.") from None


def decode_classes(classes: Bytes, *, shape_zyx: tuple[int, int, int]) -> Bytes:
    """Read the tensor CLASSES as a class map of the volume's grid (Z, Y, X)."""
    if classes.dtype != np.uint8 or classes.size != math.prod(shape_zyx):
        raise InputError(
            "classes", f"CLASSES must hold one byte per voxel of {shape_zyx}; it has {classes.size:,}."
        )
    return classes.reshape(shape_zyx)


def encode_patches(patches: AnyArray) -> dict[str, AnyArray]:
    """The tensor PATCHES from the patches (N, 8, 64, 64, 32) of N discs, by name; N may be 0."""
    return {PATCHES.name: np.ascontiguousarray(patches, dtype="<f4").reshape(-1).view(np.uint8)}


def decode_patches(patches: Bytes) -> npt.NDArray[np.float32]:
    """Read the tensor PATCHES as (N, 8, 64, 64, 32) float32, a view. InputError ``patches``."""
    shape = (MEASURE_CHANNELS, *MEASURE_PATCH_SHAPE)
    patch_bytes = 4 * math.prod(shape)
    if patches.dtype != np.uint8 or patches.size % patch_bytes or patches.size > MEASURE_BATCH * patch_bytes:
        expected = f"up to {MEASURE_BATCH} patches of {patch_bytes:,} bytes"
        raise InputError("patches", f"PATCHES must hold {expected}; it has {patches.nbytes:,} bytes.")
    values = np.ascontiguousarray(patches).view("<f4").reshape(-1, *shape)
    if not np.isfinite(values).all():
        raise InputError("patches", "PATCHES holds NaN or infinite values.")
    return values
