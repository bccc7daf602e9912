"""The init containers' rendered commands, run here: a repository is laid out, a failed build says why."""

from __future__ import annotations

import filecmp
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chart_support import container

from spine_server.repository import default_repository

Pod = Callable[..., dict[str, Any]]


def run(rendered: dict[str, Any], folders: dict[str, Path]) -> subprocess.CompletedProcess[str]:
    """Run a container's command, the folders that it mounts being others here."""
    words = [*rendered["command"], *rendered.get("args", ())]
    for mounted, here in folders.items():
        words = [word.replace(mounted, str(here)) for word in words]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = {each["name"]: each["value"] for each in rendered.get("env", ()) if "value" in each}
    environment = {**os.environ, **given, "PATH": path}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)


def assert_same(source: Path, target: Path) -> None:
    files = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert filecmp.cmpfiles(source, target, files, shallow=False)[0] == files


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository as it lies in a claim, an image volume or the image."""
    ignore = shutil.ignore_patterns("__pycache__")
    folder = shutil.copytree(default_repository(), tmp_path / "source", ignore=ignore)
    (folder / ".provenance").write_text("kept")
    (tmp_path / "models").mkdir()
    return folder


def test_a_read_only_repository_is_copied_whole(pod_of: Pod, source: Path, tmp_path: Path) -> None:
    done = run(container(pod_of("single-gpu"), "copy"), {"/source": source, "/models": tmp_path / "models"})
    assert done.returncode == 0, done.stderr
    assert_same(source, tmp_path / "models")


@pytest.mark.skipif(shutil.which("rclone") is None, reason="no rclone here (Debian: apt-get install rclone)")
def test_a_repository_is_downloaded(pod_of: Pod, source: Path, tmp_path: Path) -> None:
    """With the rendered flags; only the object store is a folder of this machine."""
    values = {"model": {"objectStore": {"path": f":local:{source}"}}}
    rendered = container(pod_of("production", values=values), "download")
    done = run(rendered, {"/models": tmp_path / "models"})
    assert done.returncode == 0, done.stderr
    assert_same(source, tmp_path / "models")


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is here: it would build"
)
def test_a_build_that_fails_ends_the_pod_with_the_reason(pod_of: Pod, tmp_path: Path) -> None:
    """The last line of a container that ended is what `kubectl describe pod` shows of it."""
    engine = container(pod_of("single-gpu"), "engine")
    models = shutil.copytree(default_repository(), tmp_path / "models")
    done = run(engine, {"/models": models, "/engines": tmp_path / "engines"})
    assert done.returncode == 2
    assert engine["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert done.stderr.strip().splitlines()[-1].startswith("spine-export: TensorRT is not installed here")
    assert not list(models.rglob("model.plan"))
