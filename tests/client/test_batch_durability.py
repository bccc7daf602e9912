"""`spine batch` killed at random moments: after going on, every study has one complete result."""

from __future__ import annotations

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
from fake_triton import FakeTriton, good_answer, start
from tritonclient.grpc import service_pb2 as pb

from spine_client.cli import main
from spine_client.cli.batch_store import BatchStore
from spine_client.errors import InputError
from spine_client.nifti import write_nifti

STUDIES = 12
SHAPE = (40, 50, 60)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A dozen NIfTI files."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for number in range(STUDIES):
        voxels = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        write_nifti(folder / f"study-{number:02}.nii.gz", voxels + number, np.eye(4))
    return folder


def slow_answer(request: pb.ModelInferRequest, context: object) -> pb.ModelInferResponse:
    time.sleep(0.03)
    return good_answer(request)


def command(studies: Path, out: Path, url: str) -> list[str]:
    words = ["batch", str(studies), "--out", str(out), "--formats", "json", "nifti", "--url", url]
    return [sys.executable, "-m", "spine_client.cli", *words]


def check_whole(out: Path) -> list[str]:
    """Everything visible in `out` is complete; the finished studies' names."""
    if not out.exists():
        return []
    visible = sorted(path for path in out.iterdir() if not path.name.startswith("."))
    finished = [path for path in visible if path.is_dir()]
    for study in finished:
        assert json.loads((study / "report.json").read_bytes())["kind"] == "spineserve.report"
        assert np.asarray(nibabel.load(study / "labels.nii.gz").dataobj).shape == SHAPE[::-1]
    others = [path for path in visible if path not in finished]
    for summary in others:
        assert summary.name == "summary.csv"
        with summary.open(newline="") as stream:
            for row in csv.DictReader(stream):
                assert row["study"] and row["flags"] is not None, row
    return [path.name for path in finished]


def kill_in_the_middle(words: list[str], out: Path, dice: random.Random) -> bool:
    """Start, wait for a random number of results and a random while more, kill -9. False: it ended before."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    target = len(list(out.glob("study-*"))) + dice.randint(0, 2)
    while process.poll() is None and (not out.exists() or len(list(out.glob("study-*"))) < target):
        time.sleep(0.002)
    time.sleep(dice.uniform(0.0, 0.08))
    ended = process.poll() is not None
    process.kill()
    process.wait()
    return not ended


def test_killed_at_twenty_random_moments(serve, studies: Path, tmp_path: Path) -> None:
    servicer, _ = serve(slow_answer)
    out, dice = tmp_path / "out", random.Random(8)
    words = command(studies, out, servicer.url)
    killed = 0
    while killed < 20:
        killed += kill_in_the_middle(words, out, dice)
        if len(check_whole(out)) == STUDIES:  # all are done: take some away, so that there is work to kill
            for name in dice.sample(range(STUDIES), 9):
                (out / f"study-{name:02}.nii.gz").rename(tmp_path / f"away-{killed}-{name}")
    assert subprocess.run(words, capture_output=True).returncode == 0
    assert check_whole(out) == [f"study-{number:02}.nii.gz" for number in range(STUDIES)]
    assert not list(out.glob(".*"))
    with (out / "summary.csv").open(newline="") as stream:
        assert [row["study"] for row in csv.DictReader(stream)] == check_whole(out)


def test_two_runs_into_one_folder_do_not_mix(serve, studies: Path, tmp_path: Path, capsys) -> None:
    servicer, _ = serve()
    out = tmp_path / "out"
    with BatchStore(out).held():
        assert main(command(studies, out, servicer.url)[3:]) == 3
    assert "another `spine batch`" in capsys.readouterr().err
    assert not list(out.iterdir())


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    store = BatchStore(tmp_path / "out")

    def runs_full(path: Path) -> None:
        path.mkdir()
        (path / "report.json").write_text("{")
        raise OSError(28, "No space left on device")

    with store.held():
        with pytest.raises(OSError, match="No space"):
            store.put("a", runs_full)
        assert not store.is_done("a")
    assert not list((tmp_path / "out").iterdir())


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), BatchStore(tmp_path / "file" / "out").held():
        pass


def test_a_server_that_restarts_is_waited_for(studies: Path, tmp_path: Path) -> None:
    """Longer than the SDK's default retries last, 2.8 s."""
    first = FakeTriton(slow_answer)
    server, port = start(first)
    process = subprocess.Popen(command(studies, tmp_path / "out", f"127.0.0.1:{port}"))
    while len(first.requests) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    server.stop(None).wait()
    time.sleep(5.0)
    server, _ = start(FakeTriton(), port=port)
    assert process.wait(60) == 0
    server.stop(None)
    assert len(check_whole(tmp_path / "out")) == STUDIES
