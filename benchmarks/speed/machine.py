"""What the figures were measured on: kind of machine, versions, commit; and the most it can compute."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import psutil
import torch

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("numpy", "torch", "nnunetv2", "openvino", "nvidia-pytriton", "tritonclient", "fastapi", "uvicorn")
_FLAGS = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
_SIDE, _ROUNDS = 3072, 4


def kind() -> str:
    """The kind of machine, without its name: cores, maker and instruction sets, memory, GPU."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in info.split("\n\n")[0].splitlines() if ":" in line)
    told = {key.strip(): value.strip() for key, value in fields.items()}
    maker = told.get("vendor_id", platform.machine()).replace("Genuine", "").replace("Authentic", "")
    flags = [flag.upper().replace("_", "-") for flag in _FLAGS if flag in told.get("flags", "").split()][:2]
    memory = round(psutil.virtual_memory().total / 2**30)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return f"{cores()} cores ({', '.join([maker, *flags])}), {memory} GiB, {gpu}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def provenance() -> dict[str, Any]:
    """Date, commit, versions and kind of machine, as every results file has them."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "commit": _commit(),
        "machine": kind(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def _commit() -> str:
    """Hash of the checkout's commit, ``+`` where tracked files differ from it; ``unknown`` without git."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        code = ["core", "server", "client", "export", "model_repository", "benchmarks/speed"]
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno", "--", *code], capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def peak_flops(*, threads: int) -> dict[str, float]:
    """Most operations per second of a large matrix product, in ``"f32"`` and in ``"bf16"``.

    The best of several, of torch or OpenVINO, whichever is faster: networks are held to the higher bar.
    """
    return {
        name: max(
            _best(product) for product in (_torch_product(name, threads), _openvino_product(name, threads))
        )
        for name in ("f32", "bf16")
    }


def _best(product: Callable[[], Any]) -> float:
    product()
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - began)
    return 2.0 * _SIDE**3 / min(seconds)


def _torch_product(name: str, threads: int) -> Callable[[], Any]:
    torch.set_num_threads(threads)
    kept = {"f32": torch.float32, "bf16": torch.bfloat16}[name]
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(_SIDE, _SIDE, generator=generator).to(kept) for _ in range(2))
    return lambda: a @ b


def _openvino_product(name: str, threads: int) -> Callable[[], Any]:
    from openvino import opset13 as opset

    given = opset.parameter([_SIDE, _SIDE], np.float32)
    weights = np.random.default_rng(0).standard_normal((_SIDE, _SIDE), np.float32)
    model = openvino.Model([opset.matmul(given, opset.constant(weights), False, False)], [given])
    chosen = {
        "INFERENCE_PRECISION_HINT": name,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(model, "CPU", chosen).create_infer_request()
    values = np.random.default_rng(1).standard_normal((_SIDE, _SIDE), np.float32)
    return lambda: request.infer([values], share_inputs=True, share_outputs=True)
