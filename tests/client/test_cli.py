"""The command line: output, exit codes, interruption."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from ctrl_c import start_hearing_ctrl_c
from dicom_writer import AXIAL, write_series
from fake_triton import FakeTriton, fails, hangs, in_shared_memory, input_tensors, labels_only, start

from spine_client.cli import main
from spine_client.cli.arguments import parser
from spine_client.cli.tables import discs_table, print_table
from spine_client.nifti import write_nifti

FILES = {"report.json", "labels.nii.gz", "overlay.png", "report.html"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_series(tmp_path / "dicom")
    return tmp_path / "dicom"


def test_analyze_prints_a_table_and_writes_the_files(serve, folder: Path, tmp_path: Path, capsys) -> None:
    servicer, _ = serve()
    assert main(["analyze", str(folder), "--out", str(tmp_path / "out"), "--url", servicer.url]) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert lines[1].split() == [
        "Disc",
        "ant.",
        "mid.",
        "post.",
        "mean",
        "mean",
        "CNN",
        "canal",
        "AP",
        "CNN",
        "Flags",
    ]
    assert lines[2].split() == ["L4/L5", "10.0", "9.0", "8.0", "9.1", "9.4", "14.2", "–"]
    assert "not a medical device" in output.out
    assert "warning: The weights are a demonstration." in output.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert "analysing on the server" in output.err
    assert "\r" not in output.err


def test_analyze_json_prints_nothing_else(serve, folder: Path, capsys) -> None:
    servicer, _ = serve()
    assert main(["analyze", str(folder), "--json", "--region", "lumbar", "--url", servicer.url]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["discs"][0]["name"] == "L4/L5"
    assert output.err == ""


def test_analyze_nifti(serve, tmp_path: Path, capsys) -> None:
    servicer, _ = serve()
    write_nifti(tmp_path / "v.nii.gz", np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.eye(4))
    assert main(["analyze", str(tmp_path / "v.nii.gz"), "--url", servicer.url]) == 0


def test_series_can_be_named(serve, tmp_path: Path, capsys) -> None:
    servicer, _ = serve()
    write_series(tmp_path / "a", series_uid="1.2.9", skip=[5])
    write_series(tmp_path / "b")
    assert main(["analyze", str(tmp_path), "--series", "1.2.9", "--url", servicer.url]) == 0
    assert np.frombuffer(servicer.requests[0].raw_input_contents[1], "<i8")[1] == 5


@pytest.mark.parametrize(
    ("status", "details", "code"),
    [
        ("UNAVAILABLE", "", 4),
        ("DEADLINE_EXCEEDED", "", 5),
        ("INVALID_ARGUMENT", "[spineserve:too_small] Too small.", 6),
        ("INTERNAL", "", 7),
        ("PERMISSION_DENIED", "", 8),
    ],
)
def test_exit_codes_of_the_server(serve, folder: Path, capsys, status: str, details: str, code: int) -> None:
    servicer, _ = serve(fails(grpc.StatusCode[status], details))
    assert main(["analyze", str(folder), "--url", servicer.url]) == code
    assert capsys.readouterr().err.splitlines()[-1].startswith("spine: ")


def test_bad_source_is_3_and_json_says_why(tmp_path: Path, capsys) -> None:
    assert main(["analyze", str(tmp_path / "none"), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "no_such_path"


def test_unwritable_output_folder_is_3(serve, folder: Path, tmp_path: Path, capsys) -> None:
    servicer, _ = serve()
    (tmp_path / "file").touch()
    assert main(["analyze", str(folder), "--out", str(tmp_path / "file"), "--url", servicer.url]) == 3


@pytest.mark.parametrize("argv", [[], ["analyze"], ["analyze", "x", "--timeout", "0"], ["frobnicate"]])
def test_wrong_usage_is_2(argv: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


def test_missing_packages_are_named_and_the_rest_is_written(
    serve, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    servicer, _ = serve()
    monkeypatch.setattr("spine_client.saving.find_spec", lambda name: None)
    common = ["analyze", str(folder), "--out", str(tmp_path / "out"), "--url", servicer.url]
    assert main(common) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]
    assert "spineserve-client[nifti]" in capsys.readouterr().err
    assert main([*common, "--formats", "nifti"]) == 2


def test_segment_prints_the_labels_and_writes_them(serve, folder: Path, tmp_path: Path, capsys) -> None:
    servicer, _ = serve(labels_only)
    command = ["segment", str(folder), "--model", "segmentation_liver", "--url", servicer.url]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[0] == "Labels of segmentation_liver"
    assert output.out.splitlines()[2].split()[0] == "3"
    assert "not a medical device" in output.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"segmentation.json", "labels.nii.gz"}
    assert main([*command, "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["model"] == "segmentation_liver"
    assert output.err == ""
    assert {request.model_name for request in servicer.requests} == {"segmentation_liver"}


def test_options_reach_the_server(serve, folder: Path, capsys) -> None:
    servicer, _ = serve()
    options = ["--window", "300", "600", "--mirroring", "--step-size", "0.5", "--mode", "fast"]
    options += ["--region", "lumbar"]
    assert main(["analyze", str(folder), *options, "--url", servicer.url]) == 0
    assert json.loads(input_tensors(servicer.requests[0])["OPTIONS"][4:]) == {
        "region": "lumbar",
        "window_center": 300.0,
        "window_width": 600.0,
        "mirroring": True,
        "step_size": 0.5,
        "mode": "fast",
    }


def test_several_servers_and_shared_memory_can_be_named(serve, folder: Path, capsys) -> None:
    servicer, _ = serve()
    assert main(["health", "--url", f"{servicer.url},{servicer.url}"]) == 0
    servicer.behaviours = (in_shared_memory(servicer),)
    assert main(["analyze", str(folder), "--shared-memory", "--url", servicer.url]) == 0
    assert (len(servicer.registered), servicer.regions) == (1, {})
    assert main(["analyze", str(folder), "--shared-memory", "--url", "spine.example:1"]) == 3


@pytest.mark.parametrize("option", ["--api-key-env", "--token-env"])
def test_secrets_come_from_the_environment_and_not_in_plaintext(
    folder: Path, option: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert main(["analyze", str(folder), option, "NO_SUCH_VARIABLE"]) == 3
    monkeypatch.setenv("SPINE_TEST_SECRET", "hunter2")
    assert main(["analyze", str(folder), option, "SPINE_TEST_SECRET", "--json"]) == 3
    output = capsys.readouterr()
    assert "plaintext_secret" in output.out
    assert "hunter2" not in output.out + output.err


def test_a_defect_is_1_and_says_where_but_not_what(
    serve, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise KeyError("DOE^JANE")

    monkeypatch.setattr("spine_client.cli.commands.open_client", broken)
    assert main(["health"]) == 1
    text = capsys.readouterr().err
    assert "KeyError in test_cli.py" in text and "DOE" not in text
    assert main(["health", "--json"]) == 1
    assert "DOE" not in capsys.readouterr().out
    monkeypatch.setenv("SPINE_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["health"])


def test_every_command_that_answers_can_answer_in_json() -> None:
    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    without = {name for name, command in commands.choices.items() if "--json" not in command.format_help()}
    assert without == {"completion"}


def test_exit_codes_stand_in_help_and_readme(capsys) -> None:
    readme = (Path(__file__).resolve().parents[2] / "client" / "README.md").read_text()
    help_text = parser().format_help()
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130):
        assert f"\n  {code}  " in help_text
        assert f"| {code} |" in readme


def test_inspect_lists_stacks_and_marks_the_one_to_be_analysed(folder: Path, tmp_path: Path, capsys) -> None:
    write_series(tmp_path / "axial", orientation=AXIAL, series_uid="1.2.9")
    assert main(["inspect", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("→  ")] == ["sagittal"]
    assert any("axial" in line and line.endswith("1.2.9") for line in lines)


def test_inspect_json(folder: Path, capsys) -> None:
    assert main(["inspect", str(folder), "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert listing["stacks"][0]["slices"] == 6
    assert listing["chosen"] == listing["stacks"][0]["id"]


def test_health(serve, capsys) -> None:
    servicer, _ = serve()
    assert main(["health", "--url", servicer.url]) == 0
    assert capsys.readouterr().out == "ready (Triton 2.51.0)\n"
    assert main(["health", "--deep", "--json", "--url", servicer.url]) == 0
    assert json.loads(capsys.readouterr().out)["canary_s"] > 0


def test_health_without_a_server_is_4(capsys) -> None:
    server, port = start(FakeTriton())
    server.stop(None).wait()
    assert main(["health", "--url", f"127.0.0.1:{port}"]) == 4
    assert capsys.readouterr().out.startswith("not ready: ")


def test_ctrl_c_cancels_the_request_and_is_130(serve, folder: Path) -> None:
    servicer, _ = serve(hangs())
    command = [sys.executable, "-m", "spine_client.cli", "analyze", str(folder), "--url", servicer.url]
    process = start_hearing_ctrl_c(command)
    while not servicer.requests:  # a cold start takes what it takes; pytest's own limit ends a hang
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "cancelled" in err
    assert "Traceback" not in err
    assert servicer.cancelled.wait(30)


def test_on_a_terminal_there_is_a_spinner_and_a_rich_table(serve, volume) -> None:
    import io

    from spine_client.cli.waiting import WaitingLine

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    _, client = serve()
    err, out = Terminal(), Terminal()
    with WaitingLine(err) as line:
        result = client.analyze(volume, on_progress=line)
    assert "⠋ reading the images … 0 s" in err.getvalue()
    assert err.getvalue().endswith("\r\x1b[2K")
    print_table(discs_table(result), out)
    assert "L4/L5" in out.getvalue()
