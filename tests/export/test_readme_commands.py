"""The three commands of export/README.md, as a new user types them, after a training by nnU-Net's own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import nibabel
import numpy as np
import pytest

from spine_client import SpineClient
from spinecore.labels import Class
from spinecore.phantom import Phantom, PhantomConfig, make_phantom

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

README = Path(__file__).resolve().parents[2] / "export" / "README.md"
COMMANDS = Path(sys.executable).parent
CASES = 5
TRAINER = "ShortTrainer"
TRAIN = """
from nnunetv2.run.run_training import run_training_entry
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as searched_first


class ShortTrainer(searched_first.nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 600, 1


searched_first.ShortTrainer = ShortTrainer
if __name__ == "__main__":
    run_training_entry()
"""
"""What `nnUNetv2_train` runs, with a trainer of one short epoch. It stands where nnU-Net looks first: the
search ends where one of its own trainers cannot be imported (a torchvision that does not fit torch)."""
START_TIMEOUT_S = 300
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run one of the environment's commands in `folder`; what it printed."""
    done = subprocess.run(
        [str(COMMANDS / command[0]), *command[1:]],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def phantom(seed: int) -> Phantom:
    return make_phantom(
        PhantomConfig(
            seed=seed, region="lumbar", contrast="t2", spacing_mm=(2.5, 2.5, 2.5), fov_mm=(120.0, 90.0, 50.0)
        )
    )


def save(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """(Z, Y, X) with its affine in LPS mm as a NIfTI file."""
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(voxels.T), LPS_TO_RAS @ affine), path)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folders that nnU-Net's users name by environment variables."""
    folder = tmp_path_factory.mktemp("nnunet")
    places = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    few = {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
    return {**os.environ, **places, **few, "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def results(environment: dict[str, str]) -> Path:
    """A results folder of nnU-Net's own commands: plan, preprocess, one short epoch of training."""
    raw = Path(environment["nnUNet_raw"]) / "Dataset201_X"
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True)
    for seed in range(CASES):
        drawn = phantom(seed)
        save(raw / "imagesTr" / f"case_{seed}_0000.nii.gz", drawn.image, drawn.affine)
        save(raw / "labelsTr" / f"case_{seed}.nii.gz", drawn.classes, drawn.affine)
    labels = {"background": 0, **{each.name.lower(): int(each) for each in Class if each}}
    dataset = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": CASES, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(dataset))
    prepare = ["nnUNetv2_plan_and_preprocess", "-d", "201", "-c", "3d_fullres", "-npfp", "1", "-np", "1"]
    run(prepare, raw, environment)
    make_small(Path(environment["nnUNet_preprocessed"]) / "Dataset201_X" / "nnUNetPlans.json")
    (raw / "train.py").write_text(TRAIN)
    train = ["python", "train.py", "201", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu"]
    run(train, raw, environment)
    return Path(environment["nnUNet_results"]) / "Dataset201_X" / f"{TRAINER}__nnUNetPlans__3d_fullres"


def make_small(plans_file: Path) -> None:
    """Fewer features than nnU-Net plans, as its users edit plans too: trained in seconds on a CPU."""
    plans = json.loads(plans_file.read_text())
    chosen = plans["configurations"]["3d_fullres"]
    chosen["patch_size"] = [32, 24, 16]
    chosen["architecture"]["arch_kwargs"].update(
        n_stages=3,  # with two, nnU-Net's weights of deep supervision are 0/0
        features_per_stage=[6, 12, 24],
        kernel_sizes=[[3, 3, 3]] * 3,
        strides=[[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        n_conv_per_stage=[2, 2, 2],
        n_conv_per_stage_decoder=[2, 2],
    )
    plans_file.write_text(json.dumps(plans))


def readme_commands() -> list[list[str]]:
    """The commands of the section «three commands», split at blanks."""
    section = README.read_text().partition("three commands\n")[2].partition("\n## ")[0]
    block = section.partition("```console\n")[2].partition("```")[0]
    return [line.removeprefix("$ ").split() for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def serving(port: int, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Servers started by the test, stopped as Ctrl-C would."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with SpineClient(url) as client:
        while not client.health().ok:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not become ready"
            time.sleep(1)


def test_a_trained_folder_is_exported_served_and_analysed_by_the_readmes_three_commands(
    results: Path,
    environment: dict[str, str],
    port: int,
    serving: list[subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    export, serve, analyze = readme_commands()
    assert [export[:2], serve[:1], analyze[:2]] == [
        ["spine-export", "nnunet"], ["spine-server"], ["spine", "analyze"],
    ]  # fmt: skip
    assert re.fullmatch(r"\$nnUNet_results/Dataset201_X/\w+__nnUNetPlans__3d_fullres", export[2])
    printed = run([*export[:2], str(results), *export[3:]], tmp_path, environment)
    assert "entry models: segmentation, spine_mri" in printed
    command = [str(COMMANDS / serve[0]), *serve[1:], "--grpc-port", str(port)]
    serving.append(subprocess.Popen(command, cwd=tmp_path, env=environment))
    wait_until_ready(f"127.0.0.1:{port}", serving[0])
    drawn = phantom(10_000)
    save(tmp_path / "image.nii.gz", drawn.image, drawn.affine)
    run([*analyze, "--url", f"127.0.0.1:{port}"], tmp_path, environment)
    report = json.loads((tmp_path / "result" / "report.json").read_text())
    assert report["models"]["segmentation"]["name"] == "nnunet"
    labels = np.asanyarray(nibabel.load(tmp_path / "result" / "labels.nii.gz").dataobj)
    assert labels.T.shape == drawn.image.shape
    assert len(np.unique(labels)) > 1
