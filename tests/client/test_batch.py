"""`spine batch`: resumable, complete or absent, with a summary."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from ctrl_c import start_hearing_ctrl_c
from dicom_writer import write_series
from fake_triton import fails, good_answer, hangs

from spine_client.cli import main
from spine_client.nifti import write_nifti

FILES = {"report.json", "labels.nii.gz", "overlay.png", "report.html"}


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Two DICOM folders and a NIfTI file."""
    folder = tmp_path / "studies"
    write_series(folder / "a")
    write_series(folder / "b")
    write_nifti(folder / "c.nii.gz", np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.eye(4))
    (folder / "notes.txt").write_text("not a study")
    return folder


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_study_gets_its_folder_and_its_rows(serve, studies: Path, tmp_path: Path, capsys) -> None:
    servicer, _ = serve()
    out = tmp_path / "out"
    assert main(["batch", str(studies), "--out", str(out), "--url", servicer.url]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "c.nii.gz", "summary.csv"]
    for name in ("a", "b", "c.nii.gz"):
        written = {path.name for path in (out / name).iterdir()}
        assert written == FILES
    assert [(row["study"], row["disc"], row["height_mean_mm"]) for row in rows(out)] == [
        ("a", "L4/L5", "9.1"),
        ("b", "L4/L5", "9.1"),
        ("c.nii.gz", "L4/L5", "9.1"),
    ]
    output = capsys.readouterr()
    assert "[3/3]" in output.err
    assert "3 studies finished, 0 failed" in output.out


def test_second_run_does_only_what_is_missing(serve, studies: Path, tmp_path: Path, capsys) -> None:
    servicer, _ = serve()
    out = tmp_path / "out"
    command = ["batch", str(studies), "--out", str(out), "--formats", "json", "--url", servicer.url]
    assert main(command) == 0
    shutil.rmtree(out / "b")
    (out / ".partial-b").mkdir()
    (out / ".partial-b" / "report.json").write_text("torn")
    capsys.readouterr()
    assert main(command) == 0
    assert len(servicer.requests) == 4
    assert "2 of 3 studies are done already" in capsys.readouterr().err
    assert len(rows(out)) == 3
    assert not (out / ".partial-b").exists()


def test_failures_are_counted_named_and_tried_again(serve, studies: Path, tmp_path: Path, capsys) -> None:
    refuse = fails(grpc.StatusCode.INVALID_ARGUMENT, "[spineserve:too_small] Too small.")
    servicer, _ = serve(refuse, good_answer)
    shutil.rmtree(studies / "b")
    (studies / "b").mkdir()
    out = tmp_path / "out"
    common = ["batch", str(studies), "--out", str(out), "--formats", "json", "--url", servicer.url]
    assert main([*common, "--concurrency", "1", "--json"]) == 9
    content = json.loads(capsys.readouterr().out)
    assert content["finished"] == 1
    assert [(each["study"], each["error"]) for each in content["failed"]] == [
        ("a", "RequestRejected:too_small"),
        ("b", "InputError:empty_folder"),
    ]
    assert [row["status"] for row in rows(out)] == ["failed", "failed", "ok"]
    assert main(common) == 9
    assert [row["status"] for row in rows(out)] == ["ok", "failed", "ok"]


def test_ctrl_c_keeps_what_is_done(serve, studies: Path, tmp_path: Path) -> None:
    servicer, _ = serve(good_answer, hangs())
    out = tmp_path / "out"
    command = [sys.executable, "-m", "spine_client.cli", "batch", str(studies), "--out", str(out)]
    options = ["--formats", "json", "--concurrency", "1", "--url", servicer.url]
    process = start_hearing_ctrl_c([*command, *options])
    while len(servicer.requests) < 2:  # a cold start takes what it takes; pytest's own limit ends a hang
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert servicer.cancelled.wait(30)
    assert [row["study"] for row in rows(out)] == ["a"]


def test_output_inside_the_folder_is_no_study(serve, studies: Path, capsys) -> None:
    servicer, _ = serve()
    (studies / ".hidden").mkdir()
    command = [
        "batch",
        str(studies),
        "--out",
        str(studies / "out"),
        "--formats",
        "json",
        "--url",
        servicer.url,
    ]
    assert main(command) == 0
    assert main(command) == 0
    assert len(servicer.requests) == 3


def test_folder_without_studies(tmp_path: Path, capsys) -> None:
    write_series(tmp_path / "flat")
    assert main(["batch", str(tmp_path / "flat"), "--out", str(tmp_path / "out")]) == 3
    assert "spine analyze" in capsys.readouterr().err


def test_bar_on_a_terminal() -> None:
    import io

    from spine_client.cli.batch_progress import BatchProgress
    from spine_client.errors import ServerFailed

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with BatchProgress(stream, 4, False) as progress:
        progress.skipped(1)
        progress.done("x", None)
        progress.done("y", ServerFailed("it broke"))
    text = stream.getvalue()
    assert "1 of 4 studies are done already" in text
    assert "━━━━ 3/4" not in text and " 3/4, about 0 s left" in text
    assert "[3/4] y: it broke" in text
    assert "x: done" not in text
