"""`spine batch` on a real server: client and server are killed at random; nothing is lost or half there.

The gate stands before the server, as where others call it. Without it nobody would notice before the deadline
that a killed client waits no more, and the server would work on studies of the dead for most of the test.
"""

from __future__ import annotations

import contextlib
import csv
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from reliability.gate_process import GateProcess
from reliability.processes import alive
from reliability.replica import Replica
from reliability.stream import fingerprint, phantoms

from spine_client import SpineClient
from spine_client.nifti import write_nifti

STUDIES = 24


def check_whole(out: Path, expected: dict[str, str]) -> set[str]:
    """All that is visible is complete and right; the finished studies."""
    finished = {path.name for path in out.glob("study-*")}
    for name in finished:
        assert json.loads((out / name / "report.json").read_bytes())["kind"] == "spineserve.report"
        labels = np.asarray(nibabel.load(out / name / "labels.nii.gz").dataobj).astype(np.uint8)
        assert fingerprint(labels) == expected[name], name
    return finished


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_client_and_server_killed_at_twenty_random_points(tmp_path: Path) -> None:
    """Fifteen times the client, five times tritonserver under its supervisor, at moments drawn at random."""
    dice, studies, out = random.Random(20), tmp_path / "studies", tmp_path / "out"
    studies.mkdir()
    volumes = phantoms(4)
    for number in range(STUDIES):
        volume = volumes[number % 4]
        write_nifti(studies / f"study-{number:02}.nii.gz", volume.voxels, volume.affine)
    with contextlib.ExitStack() as stack:
        replica = Replica(0, tmp_path)
        stack.callback(replica.stop)
        replica.start()
        replica.wait_ready(240)
        gate = stack.enter_context(GateProcess(f"127.0.0.1:{replica.port}", asks_for_key=False))
        url = f"127.0.0.1:{gate.port}"
        expected = reference(studies, url, tmp_path)
        command = [sys.executable, "-m", "spine_client.cli", "batch", str(studies), "--out", str(out)]
        command += ["--formats", "json", "nifti", "--url", url]
        began = time.monotonic()
        subprocess.run([*command[:4], str(one_study(studies)), *command[5:]], check=True, capture_output=True)
        one_study_s = time.monotonic() - began
        struck = kill_again_and_again(command, out, replica, expected, (dice, one_study_s))
        assert struck.count("client") == 15 and struck.count("server") == 5
        wait_for_server(url)
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert check_whole(out, expected) == set(expected)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    with (out / "summary.csv").open(newline="") as stream:
        assert {row["study"] for row in csv.DictReader(stream)} == set(expected)


def wait_for_server(url: str) -> None:
    """The one killed last is being started again."""
    deadline = time.monotonic() + 300.0
    with SpineClient(url) as client:
        while not client.health().ok:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def one_study(studies: Path) -> Path:
    """A folder with the first study alone."""
    folder = studies.parent / "one"
    folder.mkdir()
    (folder / "study-00.nii.gz").write_bytes((studies / "study-00.nii.gz").read_bytes())
    return folder


def reference(studies: Path, url: str, folder: Path) -> dict[str, str]:
    """What each study's label map is, by study, as the files hold it (axes X, Y, Z)."""
    expected: dict[str, str] = {}
    known: dict[int, str] = {}
    with SpineClient(url) as client:
        for number, path in enumerate(sorted(studies.iterdir())):
            if number % 4 not in known:
                result = client.analyze(path)
                write_nifti(folder / "reference.nii.gz", result.labels, result.affine)
                labels = np.asarray(nibabel.load(folder / "reference.nii.gz").dataobj).astype(np.uint8)
                known[number % 4] = fingerprint(labels)
            expected[path.name] = known[number % 4]
    return expected


def kill_again_and_again(
    command: list[str],
    out: Path,
    replica: Replica,
    expected: dict[str, str],
    chance: tuple[random.Random, float],
) -> list[str]:
    """Run the batch, and kill one side or the other twenty times in all.

    `chance` draws each moment: none to two studies after the last, and up to so many seconds, in which a run
    of one study is over.
    """
    dice, one_study_s = chance
    victims = ["client"] * 15 + ["server"] * 5
    dice.shuffle(victims)
    struck: list[str] = []
    finished: list[int] = []
    process: subprocess.Popen[bytes] | None = None
    while victims:
        if process is None or process.poll() is not None:
            take_some_away(out, dice, expected)
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_more(out, process, dice.choice((0, 0, 1, 2)))
        time.sleep(dice.uniform(0.1, one_study_s))
        if process.poll() is not None:
            continue
        struck.append(victims.pop())
        if struck[-1] == "client":
            process.kill()
            process.wait()
        else:
            kill_server(replica)
        finished.append(len(check_whole(out, expected)))
        print(f"killed the {struck[-1]} with {finished[-1]} of {STUDIES} studies finished", flush=True)
    assert len(set(finished)) > 5  # the moments are spread over the work
    if process is not None:
        process.kill()
        process.wait()
    return struck


def wait_for_more(out: Path, process: subprocess.Popen[bytes], more: int) -> None:
    """Until so many more studies are finished, or all are."""
    target = len(list(out.glob("study-*"))) + more
    while process.poll() is None and len(list(out.glob("study-*"))) < target:
        time.sleep(0.05)


def kill_server(replica: Replica) -> None:
    """SIGKILL to tritonserver as soon as there is one: the supervisor may just be starting it."""
    while True:
        try:
            pid = replica.triton
        except RuntimeError:
            time.sleep(0.1)
            continue
        subprocess.run(["kill", "-9", str(pid)], check=True)
        while alive(pid):
            time.sleep(0.05)
        return


def take_some_away(out: Path, dice: random.Random, expected: dict[str, str]) -> None:
    """Where all are done there is nothing to kill: a third goes back to be done again."""
    finished = check_whole(out, expected)
    if finished == set(expected):
        for name in dice.sample(sorted(finished), len(finished) // 3):
            (out / name).rename(out.parent / f"away-{time.monotonic_ns()}-{name}")
