"""Engines are built once per GPU, TensorRT, network and precision, and one that does not fit is never used.

TensorRT itself is not there: the builder is a function that returns the bytes it was given, marked.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from spine_export.cli import main
from spine_export.engine_cache import EngineKey, build_engines, fits, profile_shapes
from spine_export.errors import ExportError
from spine_export.networks import export_nnunet
from spine_export.tensorrt_engine import BuildOptions, Built, Gpu, find_gpu, tensorrt_version

GPU = Gpu("NVIDIA L4", "8.9", "575.1")
KEY = EngineKey("8.9", "10.13.2", "a" * 64, "fp16", 4)


class Recorder:
    """Stands where TensorRT would build: keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[BuildOptions] = []

    def __call__(self, content: bytes, options: BuildOptions) -> Built:
        self.asked.append(options)
        onnx.checker.check_model(onnx.load_from_string(content))
        return Built(b"plan of " + content[:32], b"timing")


@pytest.fixture(scope="module")
def repository(plain_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one network."""
    path = tmp_path_factory.mktemp("engines") / "repository"
    export_nnunet(plain_results, repository=path)
    return path


def provide(repository: Path, cache: Path | None, build: Recorder, **changed: object) -> list[str]:
    chosen = {"gpu": GPU, "version": "10.13.2", "precision": "fp16", **changed}
    return list(
        build_engines(repository, cache=cache, workspace_bytes=2**30, builder=build, **chosen)  # type: ignore[arg-type]
    )


def test_an_engine_is_built_once_and_then_taken_from_the_cache(repository: Path, tmp_path: Path) -> None:
    build, version = Recorder(), repository / "nnunet" / "1"
    assert "built in" in provide(repository, tmp_path, build)[0]
    plan = (version / "model.plan").read_bytes()
    sidecar = json.loads((version / "engine.json").read_text())
    assert sidecar["gpu"]["name"] == "NVIDIA L4"
    assert sidecar["key"]["tensorrt"] == "10.13.2"
    assert {"build_seconds", "built_at", "profile"} <= set(sidecar)
    assert "engine there fits" in provide(repository, tmp_path, build)[0]
    for name in ("model.plan", "engine.json"):
        (version / name).unlink()
    assert "taken from the cache" in provide(repository, tmp_path, build)[0]
    assert (version / "model.plan").read_bytes() == plan
    assert len(build.asked) == 1


@pytest.mark.parametrize(
    "changed",
    [{"gpu": replace(GPU, compute_capability="9.0")}, {"version": "11.0.0"}, {"precision": "fp32"}],
)
def test_an_engine_that_does_not_fit_is_built_anew(
    changed: dict[str, object], repository: Path, tmp_path: Path
) -> None:
    build = Recorder()
    provide(repository, tmp_path, build)
    before = len(build.asked)
    assert "built in" in provide(repository, tmp_path, build, **changed)[0]
    assert len(build.asked) == before + 1


def test_a_damaged_engine_does_not_fit(repository: Path, tmp_path: Path) -> None:
    build = Recorder()
    provide(repository, tmp_path, build, version="10.14.1")
    (kept,) = (path for path in tmp_path.glob("sm8.9-trt10.14.1*") if path.is_dir())
    key = EngineKey(**json.loads((kept / "engine.json").read_text())["key"])
    assert fits(kept, key)
    (kept / "model.plan").write_bytes(b"half of it")
    assert not fits(kept, key)
    (kept / "engine.json").write_text("{")
    assert not fits(kept, key)


def test_timings_of_the_last_build_help_the_next(repository: Path, tmp_path: Path) -> None:
    build = Recorder()
    provide(repository, tmp_path, build, version="10.15.0")
    provide(repository, tmp_path, build, version="10.15.0", precision="fp32")
    assert [options.timing_cache for options in build.asked] == [b"", b"timing"]
    assert [options.tf32 for options in build.asked] == [True, False]


def test_without_a_cache_the_engine_lies_beside_its_network(repository: Path) -> None:
    provide(repository, None, Recorder(), version="10.16.0")
    assert (repository / "nnunet" / "1" / "model.plan").is_file()


def test_every_part_of_the_key_names_another_folder() -> None:
    others = [
        replace(KEY, compute_capability="9.0"), replace(KEY, tensorrt="11.0"),
        replace(KEY, onnx_sha256="b" * 64), replace(KEY, precision="fp32"),
        replace(KEY, max_batch_size=8), replace(KEY, format=2),
    ]  # fmt: skip
    folders = {key.folder for key in (KEY, *others)}
    assert len(folders) == 7
    assert KEY.folder == "sm8.9-trt10.13.2-aaaaaaaaaaaaaaaa-fp16-b4-f1"
    assert "/" not in replace(KEY, tensorrt="../../x").folder


@pytest.mark.parametrize(("most", "best"), [(1, 1), (2, 1), (4, 2), (32, 16)])
def test_profiles_span_the_models_batches(most: int, best: int, repository: Path) -> None:
    graph = onnx.load(repository / "nnunet" / "1" / "model.onnx")
    row = (1, 8, 12, 16)
    assert profile_shapes(graph, most) == {"PATCH": ((1, *row), (best, *row), (most, *row))}


def test_without_tensorrt_or_a_gpu_one_sentence_says_so(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match="No NVIDIA GPU is there"):
        find_gpu()
    try:
        tensorrt_version()
    except ExportError:
        assert main(["engine", str(repository), "--cache", str(tmp_path)]) == 2
        assert "TensorRT is not installed here" in capsys.readouterr().err
    assert main(["engine"]) == 2
    assert "Which repository?" in capsys.readouterr().err
    assert main(["engine", "--repository", str(tmp_path)]) == 2
    assert "holds no network that TensorRT serves" in capsys.readouterr().err
