"""ONNX -> TensorRT engine on the GPU of this machine.

Written against TensorRT 10 and 11's Python API, as the Triton release of the server's image ships it. Not run
where it was written, for want of a GPU with TensorRT; therefore small, with what can be checked without one
kept in `half_graph` (the graph's types) and `engine_cache` (profiles, keys, files).
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spine_export.errors import ExportError

Shape = tuple[int, ...]
ProfileShapes = tuple[Shape, Shape, Shape]

_QUERY = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Gpu:
    """The GPU that engines are built on, and for."""

    name: str
    compute_capability: str
    driver: str


@dataclass(frozen=True)
class BuildOptions:
    """`profile` has (least, best, most) shape per input; `timing_cache` is of an earlier build, or empty."""

    profile: Mapping[str, ProfileShapes]
    workspace_bytes: int
    tf32: bool
    timing_cache: bytes = b""


@dataclass(frozen=True)
class Built:
    """A serialised engine, and what was learnt about kernels while building it."""

    plan: bytes
    timing_cache: bytes


def tensorrt_version() -> str:
    """Version of the TensorRT installed here; ExportError where there is none."""
    return str(_tensorrt().__version__)


def find_gpu() -> Gpu:
    """The first GPU that this process sees; ExportError where there is none."""
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
        rows = list(csv.reader(done.stdout.splitlines(), skipinitialspace=True))
        name, capability, driver = rows[0]
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        raise ExportError(
            "No NVIDIA GPU is there: TensorRT engines are built on the kind of GPU that serves them."
        ) from None
    return Gpu(name.strip(), capability.strip(), driver.strip())


def build_engine(onnx_content: bytes, options: BuildOptions) -> Built:
    """Build a strongly typed engine: every tensor has the type that the graph says."""
    trt = _tensorrt()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_content):
        reason = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        raise ExportError(f"TensorRT cannot read the network: {reason}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    timing = config.create_timing_cache(options.timing_cache)
    config.set_timing_cache(timing, ignore_mismatch=False)
    profile = builder.create_optimization_profile()
    for name, (least, best, most) in options.profile.items():
        profile.set_shape(name, least, best, most)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError("TensorRT could not build the engine; its messages above say why.")
    return Built(bytes(plan), bytes(config.get_timing_cache().serialize()))


def _strongly_typed(trt: Any) -> int:
    """The creation flag of TensorRT 10; 11 is always strongly typed and ignores it."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _tensorrt() -> Any:
    """NVIDIA's package, or the bindings alone, which the server's GPU image has beside its own libraries."""
    for name in ("tensorrt", "tensorrt_bindings"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise ExportError(
        "TensorRT is not installed here: build engines in the server's GPU image, which carries it."
    )
