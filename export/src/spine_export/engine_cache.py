"""TensorRT engines for a repository: built once per kind of GPU, kept, never loaded where they don't fit.

An engine fits one compute capability, one TensorRT version, one ONNX file, one precision and one batch range.
All of these are in its key, which names its folder in the cache, and in full in the sidecar ``engine.json``
beside the plan. A pod's start takes what fits and builds what is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from spine_export.config_files import ONNX_FILE, PLAN_FILE, ports
from spine_export.errors import ExportError
from spine_export.files import sha256
from spine_export.half_graph import to_half
from spine_export.repository import VERSION, check_repository
from spine_export.tensorrt_engine import (
    BuildOptions,
    Built,
    Gpu,
    ProfileShapes,
    build_engine,
    find_gpu,
    tensorrt_version,
)
from spine_server.modes import NETWORK_DESCRIPTION
from spine_server.repository import Model, read_model
from spinecore.network_spec import NetworkSpec

SIDECAR = "engine.json"
FORMAT = 1
"""Of the graph handed to TensorRT; counted up when the fp16 pass changes, so that old engines do not fit."""
_TIMING = "timing.cache"
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")

Builder = Callable[[bytes, BuildOptions], Built]


@dataclass(frozen=True)
class EngineKey:
    """What an engine fits."""

    compute_capability: str
    tensorrt: str
    onnx_sha256: str
    precision: str
    max_batch_size: int
    format: int = FORMAT

    @property
    def folder(self) -> str:
        """Name of its folder in the cache; the sidecar holds the parts in full."""
        parts = (
            f"sm{self.compute_capability}",
            f"trt{self.tensorrt}",
            self.onnx_sha256[:16],
            self.precision,
            f"b{self.max_batch_size}",
            f"f{self.format}",
        )
        return _UNSAFE.sub("_", "-".join(parts))


def build_engines(
    repository: Path,
    *,
    cache: Path | None,
    precision: str,
    workspace_bytes: int,
    gpu: Gpu | None = None,
    version: str | None = None,
    builder: Builder = build_engine,
) -> Iterator[str]:
    """Put an engine that fits beside every network of `repository` that TensorRT serves; a line for each.

    `gpu`, `version` and `builder` are those of this machine by default. ExportError where TensorRT or a GPU
    is missing, or where there is no network to build.
    """
    networks = tensorrt_networks(repository)
    if not networks:
        raise ExportError(f"{repository} holds no network that TensorRT serves.")
    version = version or tensorrt_version()
    gpu = gpu or find_gpu()
    for model in networks:
        source = model.folder / VERSION / ONNX_FILE
        if not source.is_file():
            raise ExportError(f"Model {model.name} has no {VERSION}/{ONNX_FILE} to build an engine from.")
        own = _own_precision(model) or precision
        key = EngineKey(
            gpu.compute_capability, version, sha256(source), own, int(model.config.max_batch_size)
        )
        yield _provide(model, key, gpu, cache, workspace_bytes, builder)


def _own_precision(model: Model) -> str | None:
    """``"fp32"`` for a network that was exported so: the mode exact relies on it."""
    path = model.folder / VERSION / NETWORK_DESCRIPTION
    return "fp32" if path.is_file() and NetworkSpec.load(path).precision == "fp32" else None


def tensorrt_networks(repository: Path) -> list[Model]:
    """The models whose GPU profile is a TensorRT plan, by name."""
    check_repository(repository)
    folders = sorted(path.parent for path in repository.glob("[!.]*/config.pbtxt"))
    models = [read_model(folder, "gpu") for folder in folders]
    return [model for model in models if model.kind == "tensorrt_plan"]


def _provide(
    model: Model, key: EngineKey, gpu: Gpu, cache: Path | None, workspace_bytes: int, builder: Builder
) -> str:
    target = model.folder / VERSION
    if fits(target, key):
        return f"{model.name}: the engine there fits"
    kept = None if cache is None else cache / key.folder
    if kept is not None and fits(kept, key):
        _place(kept, target)
        return f"{model.name}: taken from the cache ({key.folder})"
    began = time.monotonic()
    _build(model, key, gpu, kept, target, workspace_bytes, builder)
    return f"{model.name}: built in {time.monotonic() - began:.0f} s ({key.folder})"


def fits(folder: Path, key: EngineKey) -> bool:
    """Whether the engine in `folder` is whole and has exactly this key."""
    try:
        sidecar = json.loads((folder / SIDECAR).read_bytes())
        plan = folder / PLAN_FILE
        return bool(sidecar["key"] == asdict(key) and sidecar["plan_sha256"] == sha256(plan))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _build(
    model: Model,
    key: EngineKey,
    gpu: Gpu,
    kept: Path | None,
    target: Path,
    workspace_bytes: int,
    builder: Builder,
) -> None:
    graph = onnx.load(target / ONNX_FILE)
    content = prepared_graph(graph, key.precision)
    timing = None if kept is None else kept.parent / _timing_name(key)
    options = BuildOptions(
        profile=profile_shapes(graph, key.max_batch_size),
        workspace_bytes=workspace_bytes,
        tf32=key.precision != "fp32",
        timing_cache=timing.read_bytes() if timing is not None and timing.is_file() else b"",
    )
    began = time.monotonic()
    built = builder(content, options)
    sidecar = {
        "key": asdict(key),
        "plan_sha256": sha256(built.plan),
        "model": model.name,
        "gpu": asdict(gpu),
        "profile": {name: [list(shape) for shape in shapes] for name, shapes in options.profile.items()},
        "build_seconds": round(time.monotonic() - began, 1),
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if kept is None or timing is None:
        _write(target, built.plan, sidecar)
        return
    kept.mkdir(parents=True, exist_ok=True)
    _write(kept, built.plan, sidecar)
    _replace(timing, built.timing_cache)
    _place(kept, target)


def prepared_graph(graph: onnx.ModelProto, precision: str) -> bytes:
    """The ONNX content that TensorRT gets: float16 with normalisation in float32, or as it is."""
    return bytes((to_half(graph) if precision == "fp16" else graph).SerializeToString(deterministic=True))


def profile_shapes(graph: onnx.ModelProto, max_batch_size: int) -> dict[str, ProfileShapes]:
    """(least, best, most) shape of every input for batches of 1 to `max_batch_size`.

    Kernels are chosen for half the largest batch: what a busy server's dynamic batching mostly reaches.
    """
    inputs, _ = ports(graph)
    best = (max_batch_size + 1) // 2
    return {port.name: ((1, *port.dims), (best, *port.dims), (max_batch_size, *port.dims)) for port in inputs}


def _timing_name(key: EngineKey) -> str:
    return _UNSAFE.sub("_", f"sm{key.compute_capability}-trt{key.tensorrt}-{_TIMING}")


def _place(kept: Path, target: Path) -> None:
    """Put a cached engine beside its network: the sidecar first gone, last written, so that no half fits."""
    (target / SIDECAR).unlink(missing_ok=True)
    for name in (PLAN_FILE, SIDECAR):
        _replace(target / name, kept / name)


def _write(folder: Path, plan: bytes, sidecar: dict[str, object]) -> None:
    (folder / SIDECAR).unlink(missing_ok=True)
    _replace(folder / PLAN_FILE, plan)
    _replace(folder / SIDECAR, (json.dumps(sidecar, indent=2) + "\n").encode())


def _replace(path: Path, content: bytes | Path) -> None:
    """Write bytes, or copy a file, to `path` in one step."""
    handle, aside = tempfile.mkstemp(prefix=".engine-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            if isinstance(content, bytes):
                stream.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, stream)
        Path(aside).chmod(0o644)
        Path(aside).replace(path)
    finally:
        Path(aside).unlink(missing_ok=True)
