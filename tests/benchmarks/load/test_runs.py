"""Whole runs: Locust as its own processes, against a slow server and against the real one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pydicom
import pytest
import trustme
from fake_triton import FakeTriton, start
from load import session
from load.cli import main
from load.records import read_records
from load.sender import Sender
from load.session import Settings
from load.target import Target
from load.volumes import samples_of
from load.workload import WorkloadError, read_workload
from reliability.replica import free_port

from spine_client import Volume
from spine_client._protocol import build_request, spine_entry
from spine_client.options import AnalyzeOptions
from spine_server import EmbeddedTriton
from spinecore.phantom import PhantomConfig, make_phantom
from spinecore.phantom.io import write_dicom

from .conftest import ROOT, SlowTriton

TINY = "{region: lumbar, spacing_mm: [8, 4, 4], fov_mm: [150, 130, 64], orientation: PIR}"
SMALL = "{region: lumbar, spacing_mm: [4, 1.25, 1.25], fov_mm: [150, 130, 64], orientation: PIR}"
SECRET = "Ixworth"


def written(folder: Path, name: str, *lines: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text("\n".join([f"name: {name}", *lines]) + "\n", "utf-8")
    return path


def run(*words: Any) -> subprocess.CompletedProcess[str]:
    places = ["--cache", Path(words[-1]).parent / "cache"]
    command = [sys.executable, ROOT / "benchmarks" / "run.py", *words, *places]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=200, check=False)


def secret_series(folder: Path) -> Path:
    """A DICOM series whose folder, file names and headers hold a name."""
    target = folder / SECRET
    config = PhantomConfig(seed=1, region="lumbar", spacing_mm=(8, 4, 4), fov_mm=(150, 130, 64))
    for path in write_dicom(make_phantom(config), target):
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.StudyDescription, dataset.PatientID = SECRET, SECRET, SECRET
        dataset.save_as(path.with_name(f"{SECRET}-{path.name}"))
        path.unlink()
    return target


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_schedule_is_kept_requests_overlap_and_nobodys_name_is_told(
    workers: int, slow_server: Callable[[float], SlowTriton], tmp_path: Path
) -> None:
    """8 volumes per second, each of which takes a second: 8 at a time. Who waits must not stop others."""
    server, out = slow_server(1.0), tmp_path / "results"
    volumes = f"volumes: [{{phantom: {TINY}}}, {{dicom: {secret_series(tmp_path)}}}]"
    phases = "phases: [{name: even, for_s: 3, rate_per_hour: 28800}]"
    workload = written(tmp_path, "even", "arrivals: even", volumes, phases)
    words = ["--workers", workers, "--master-port", free_port()]
    done = run("--host", server.url, *words, "--out", out, "--workload", workload)
    assert done.returncode == session.PASSED, done.stdout + done.stderr
    records = read_records(out / "records.csv")
    assert len(records) == 24 and all(record.ok for record in records)
    assert {record.worker for record in records} == set(range(max(workers, 1)))
    assert sorted(record.number for record in records) == [*range(24)]
    assert server.most >= 6
    assert np.percentile([record.latency_s for record in records], 50) == pytest.approx(1.0, abs=0.3)
    for name in ("summary.md", "summary.json", "timeline.png", "locust.html", "locust_stats.csv"):
        assert (out / name).stat().st_size > 100, name
    _same_requests_as_the_sdk(server, read_workload(workload).volumes, tmp_path / "cache")
    written_there = [path.read_bytes() for path in out.rglob("*")]
    told = [*written_there, *server.wire, (done.stdout + done.stderr).encode()]
    assert not any(SECRET.encode() in each for each in told)


def _same_requests_as_the_sdk(server: SlowTriton, kinds: Any, cache: Path) -> None:
    expected = {
        tuple(build_request(spine_entry(), sample.volume, AnalyzeOptions(), "x").raw_input_contents)
        for sample in samples_of(kinds, cache)
    }
    assert {tuple(request.raw_input_contents) for request in server.requests} == expected


def test_the_real_server_says_where_the_time_went(server: EmbeddedTriton, tmp_path: Path) -> None:
    """Two callers in a closed loop; what Triton counts is joined with what they saw."""
    phases = "phases: [{name: two, for_s: 5, callers: 2}]"
    assert server.metrics_url is not None and server.pid is not None
    summary = session.run(
        Settings(
            workload_path=written(tmp_path, "real", f"volumes: [{{phantom: {SMALL}}}]", phases),
            target=Target(hosts=(server.grpc_url,)),
            statistics_hosts=[server.grpc_url],
            metrics_urls=[server.metrics_url],
            server_pid=server.pid,
            results=tmp_path / "results",
            cache=tmp_path / "cache",
            command="test",
        )
    )
    overall = summary["overall"]
    assert overall["ok"] == overall["sent"] >= 2 and overall["intended"] is None
    assert sum(overall["stages_s"].values()) < overall["wire_s"]["mean"] < overall["latency_s"]["mean"]
    models = overall["server"]["models"]
    assert 1 <= models["segment"]["requests"] <= overall["sent"]
    assert models["nnunet"]["compute_ms"] > 0 and models["segment"]["queue_ms"] > 0
    busy = overall["server"]["use"]
    assert 0 < busy["cpu"] <= 1 and busy["cores_server"] > busy["cores_generator"] > 0
    assert summary["notes"] == [] and session.exit_code(summary) == session.PASSED


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False])
def test_a_worker_from_elsewhere_sends_its_share_of_the_same_workload(
    same: bool, slow_server: Callable[[float], SlowTriton], tmp_path: Path
) -> None:
    """One worker of the master's own, one that joins it; with another workload that one sends nothing."""
    server, port = slow_server(0.1), free_port()
    lines = ["arrivals: even", "timeout_s: 5", f"volumes: [{{phantom: {TINY}}}]"]
    workload = written(tmp_path, "here", *lines, "phases: [{for_s: 3, load: 6}]")
    other = written(tmp_path, "there", *lines, f"phases: [{{for_s: 3, load: {6 if same else 7}}}]")
    other.write_text(other.read_text().replace("name: there", "name: here"))
    joined = ["--worker-of", "127.0.0.1", "--out", tmp_path / "worker", "--workload", other]
    with ThreadPoolExecutor() as pool:
        worker = pool.submit(run, "--host", server.url, "--master-port", port, *joined)
        words = ["--capacity", 3600, "--workers", 1, "--remote-workers", 1, "--master-port", port]
        done = run("--host", server.url, *words, "--out", tmp_path / "results", "--workload", workload)
        told = worker.result().stdout
    records = read_records(tmp_path / "results" / "records.csv")
    assert len(records) == (18 if same else 9) and all(record.ok for record in records)
    assert done.returncode == (session.PASSED if same else session.FELL_BEHIND)
    assert ("another workload" in told) is not same


@pytest.mark.slow
def test_a_run_that_falls_short_fails(slow_server: Callable[[float], SlowTriton], tmp_path: Path) -> None:
    """A server that hardly answers: nothing in time, so the run fails and says so in capitals."""
    server = slow_server(6.0)
    phases = "phases: [{name: rush, for_s: 2, rate_per_hour: 7200}]"
    workload = written(tmp_path, "rush", "timeout_s: 1", f"volumes: [{{phantom: {TINY}}}]", phases)
    done = run("--host", server.url, "--out", tmp_path / "results", "--workload", workload)
    assert done.returncode == session.MISSED
    assert "ACHIEVED 0 OF" in done.stdout and "| DeadlineExceeded |" in done.stdout


@pytest.mark.slow
def test_ctrl_c_ends_it_with_a_sentence_and_leaves_nothing(
    slow_server: Callable[[float], SlowTriton], tmp_path: Path
) -> None:
    phases = "phases: [{name: long, for_s: 300, rate_per_hour: 3600}]"
    workload = written(tmp_path, "long", "timeout_s: 5", f"volumes: [{{phantom: {TINY}}}]", phases)
    words = ["--host", slow_server(0.1).url, "--out", tmp_path / "results", "--workload", workload]
    command = [sys.executable, ROOT / "benchmarks" / "run.py", *words, "--cache", tmp_path / "cache"]
    process = subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        locust = _child(process.pid)
        time.sleep(5.0)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130 and said == "run.py: stopped; there is no summary\n"
        assert not locust.is_running()
    finally:
        process.terminate()


def _child(pid: int) -> psutil.Process:
    """Its only child process, once it has one."""
    deadline = time.monotonic() + 60.0
    while not (children := psutil.Process(pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return children[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workload", "nothing"], "there is no workload 'nothing'; there are "),
        (["--compare", "a", "b"], "a is not a folder with the results of a run"),
        (["--host", "h:1", "--workload", "small", "--compress", "2"], "only a day can be compressed"),
        (["--workload", "TINY", "--host", "h:1", "--api-key-env", "NOT_THERE"], "NOT_THERE holds no API key"),
        (["--workload", "TINY", "--host", "h:1", "--tls-ca", "no.pem"], "a certificate or key file cannot"),
    ],
)
def test_wrong_use_is_said_in_a_sentence(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = written(tmp_path, "tiny", f"volumes: [{{phantom: {TINY}}}]", "phases: [{for_s: 1, load: 1}]")
    words = [str(tiny) if word == "TINY" else word for word in words]
    places = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert main([*places, *words]) == session.WRONG_USE
    assert said in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    workload = written(tmp_path, "x", f"volumes: [{{phantom: {TINY}}}]", "phases: [{for_s: 1, callers: 1}]")
    assert main(["--host", "h:1", "--workload", str(workload), "--out", str(tmp_path)]) == session.WRONG_USE
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_tls_and_a_key_from_a_file_reach_the_server(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])
    servicer = FakeTriton()
    server, port = start(servicer, credentials)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "key").write_text("sesame\n")
    volumes = f"volumes: [{{phantom: {TINY}}}]"
    workload = read_workload(written(tmp_path, "x", volumes, "phases: [{for_s: 1, callers: 1}]"))
    target = Target(
        hosts=(f"127.0.0.1:{port}",), tls_ca=str(tmp_path / "ca.pem"), api_key_file=str(tmp_path / "key")
    )
    sender = Sender(Target.from_json(target.to_json()), workload, samples_of(workload.volumes, tmp_path))
    assert sender.send(0, 0, 0).ok
    assert servicer.metadata[0]["triton-grpc-protocol-api-key"] == "sesame"
    assert "sesame" not in json.dumps(target.to_json())
    sender.client.close()
    server.stop(None)


def test_phantoms_are_made_once_and_the_same_again(tmp_path: Path) -> None:
    kinds = read_workload(
        written(
            tmp_path, "x", f"volumes: [{{count: 2, phantom: {TINY}}}]", "phases: [{for_s: 1, callers: 1}]"
        )
    ).volumes
    first, again = samples_of(kinds, tmp_path), samples_of(kinds, tmp_path)
    assert [sample.weight for sample in first] == [0.5, 0.5]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.volume.voxels, other.volume.voxels)
    assert not np.array_equal(first[0].volume.voxels, first[1].volume.voxels)


def test_of_a_dicom_series_only_voxels_and_geometry_are_kept(tmp_path: Path) -> None:
    series = secret_series(tmp_path)
    place = written(tmp_path, "x", f"volumes: [{{dicom: {series.name}}}]", "phases: [{for_s: 1, callers: 1}]")
    (sample,) = samples_of(read_workload(place).volumes, tmp_path)
    assert isinstance(sample.volume, Volume) and sample.volume.frames == () and sample.kind == "series 1"
    for path in series.iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(WorkloadError) as caught:
        samples_of(read_workload(place).volumes, tmp_path)
    assert SECRET not in str(caught.value)


@pytest.mark.slow
def test_a_server_is_started_where_none_is_named(tmp_path: Path) -> None:
    """As `make load`, for a few seconds: loads are multiples of what the server turns out to do."""
    phases = "phases: [{name: low, for_s: 15, load: 0.4}, {name: high, for_s: 10, load: 2, saturates: true}]"
    workload = written(tmp_path, "own", f"volumes: [{{phantom: {SMALL}}}]", phases)
    done = run("--out", tmp_path / "results", "--workload", workload)
    summary = json.loads((tmp_path / "results" / "summary.json").read_text("utf-8"))
    assert summary["capacity"]["per_hour"] > 0 and not summary["generator"]["fell_behind"]
    assert done.returncode in (session.PASSED, session.MISSED)
