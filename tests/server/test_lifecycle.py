"""Starting and stopping the real Triton: ready means answering, stopped means that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from spine_server import EmbeddedTriton, PreconditionError, ServerOptions, StartError
from spine_server.canary import run_canary, wait_until_open
from spine_server.errors import CanaryError
from spine_server.leftovers import PREFIX, SHARED_MEMORY
from spinecore.calibration import NOT_FITTED

SPINE_SERVER = [sys.executable, "-m", "spine_server.cli"]


def traces() -> set[Path]:
    """Everything in the outside world that bears a run's name."""
    return {*SHARED_MEMORY.glob(f"{PREFIX}*"), *Path(tempfile.gettempdir()).glob(f"{PREFIX}*")}


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until_gone(pids: list[int], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if is_running(pid)]


def test_a_started_server_answers_and_a_stopped_one_leaves_nothing(tiny_repository: Path) -> None:
    before = traces()
    options = ServerOptions(repository=tiny_repository, http_port=0, metrics_port=0)
    with EmbeddedTriton(options) as server:
        assert server.pid is not None
        processes = [server.pid, *children_of(server.pid)]
        assert len(processes) >= 2  # Triton and a stub
        assert 0.0 < server.started_in_s < 60.0
        assert run_canary(server.grpc_url, timeout_s=10.0) < 10.0
        assert server.metrics_url is not None and server.http_url is not None
        assert b"nv_inference_request_success" in urllib.request.urlopen(server.metrics_url, timeout=5).read()
        assert urllib.request.urlopen(f"http://{server.http_url}/v2/health/ready", timeout=5).status == 200
    assert traces() <= before
    wait_until_gone(processes)


def test_networks_without_standard_errors_of_their_own_are_warned_of(
    repository_copy: Path, tmp_path: Path
) -> None:
    """A table of another pair of networks, or of another format, would be left out in silence otherwise."""
    file, log = repository_copy / "measure_cnn" / "1" / "measure.json", tmp_path / "triton.log"
    description = json.loads(file.read_text())
    description["calibration"]["segmentation_sha256"] = "of another network"
    file.write_text(json.dumps(description))
    with EmbeddedTriton(ServerOptions(repository=repository_copy, log_level="info", log_file=log)):
        pass
    assert NOT_FITTED in log.read_text()


def test_shared_memory_is_for_no_other_user(tiny_repository: Path) -> None:
    before = traces()
    with EmbeddedTriton(ServerOptions(repository=tiny_repository)):
        regions = [path for path in traces() - before if path.parent == SHARED_MEMORY]
        assert len(regions) >= 2  # the lock and a stage's region
        assert all(path.stat().st_mode & 0o077 == 0 for path in regions)


def test_nothing_that_changes_the_server_is_open_to_callers(tiny_repository: Path) -> None:
    with EmbeddedTriton(ServerOptions(repository=tiny_repository)) as server:
        assert server.http_url is None and server.metrics_url is None
        with triton.InferenceServerClient(server.grpc_url) as client:
            assert client.is_server_live()
            assert client.get_model_metadata("spine_mri").name == "spine_mri"
            for closed in (
                lambda: client.unload_model("spine_mri"),
                lambda: client.get_model_repository_index(),
                lambda: client.register_system_shared_memory("region", "/region", 16),
                lambda: client.update_trace_settings(settings={"trace_level": "TIMESTAMPS"}),
                lambda: client.update_log_settings({"log_verbose_level": 9}),
            ):
                with pytest.raises(InferenceServerException, match="restricted"):
                    closed()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_line_announces_readiness_and_stops_in_order(
    tiny_repository: Path, tmp_path: Path, number: signal.Signals
) -> None:
    before = traces()
    log = tmp_path / "triton.log"
    command = [*SPINE_SERVER, "--repository", tiny_repository, "--grpc-port", "0", "--log-file", log]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = process.stdout.readline()
    assert "ready in" in ready and "grpc 127.0.0.1:" in ready
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "stopping" in errors
    assert "stage=stage outcome=ok" in log.read_text()
    assert traces() <= before


def test_a_signal_during_the_start_stops_it_too(tiny_repository: Path) -> None:
    before = traces()
    slow = tiny_repository / "stage" / "1" / "model.py"
    slow.write_text("import time\ntime.sleep(30)\n" + slow.read_text())
    command = [*SPINE_SERVER, "--repository", tiny_repository, "--grpc-port", "0", "--stop-timeout", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not traces() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode in (0, 3)
    assert traces() <= before


def test_without_restarts_triton_ending_by_itself_ends_spine_server_with_its_words(
    tiny_repository: Path,
) -> None:
    command = [*SPINE_SERVER, "--repository", tiny_repository, "--grpc-port", "0", "--max-restarts", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    (triton_pid,) = children_of(process.pid)
    os.kill(triton_pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "ended by itself (exit code -9)" in errors


def test_triton_does_not_outlive_a_killed_spine_server_and_its_leavings_go_at_the_next_start(
    tiny_repository: Path,
) -> None:
    before = traces()
    command = [*SPINE_SERVER, "--repository", tiny_repository, "--grpc-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    (triton_pid,) = children_of(process.pid)
    orphans = [triton_pid, *children_of(triton_pid)]
    process.kill()
    process.communicate(timeout=30)
    wait_until_gone(orphans)
    assert traces() > before  # the run folder at least
    with EmbeddedTriton(ServerOptions(repository=tiny_repository)):
        pass
    assert traces() <= before


def test_a_running_servers_memory_is_no_leftover(tiny_repository: Path) -> None:
    with EmbeddedTriton(ServerOptions(repository=tiny_repository)) as first:
        with EmbeddedTriton(ServerOptions(repository=tiny_repository)) as second:
            assert first.grpc_url != second.grpc_url
        run_canary(first.grpc_url, timeout_s=10.0)


def test_a_stage_that_cannot_be_loaded_is_explained(tiny_repository: Path) -> None:
    before = traces()
    stage = tiny_repository / "stage" / "1" / "model.py"
    stage.write_text("import package_that_nobody_has\n" + stage.read_text())
    with pytest.raises(
        StartError, match=r"(?s)No module named 'package_that_nobody_has'.*Hint: A stage lacks"
    ):
        EmbeddedTriton(ServerOptions(repository=tiny_repository)).start()
    assert traces() <= before


def test_a_server_whose_stages_fail_is_not_ready(tiny_repository: Path) -> None:
    before = traces()
    stage = tiny_repository / "stage" / "1" / "model.py"
    stage.write_text(stage.read_text().replace("np.zeros(volume", "np.zeros(undefined"))
    with pytest.raises(CanaryError, match="The canary volume was not answered"):
        EmbeddedTriton(ServerOptions(repository=tiny_repository)).start()
    assert traces() <= before


def test_a_start_that_takes_too_long_is_given_up(tiny_repository: Path) -> None:
    stage = tiny_repository / "stage" / "1" / "model.py"
    stage.write_text("import time\ntime.sleep(60)\n" + stage.read_text())
    options = ServerOptions(repository=tiny_repository, start_timeout_s=3.0, stop_timeout_s=1.0)
    started = time.monotonic()
    with pytest.raises(CanaryError, match="not loaded within the start timeout"):
        EmbeddedTriton(options).start()
    assert time.monotonic() - started < 20.0


def test_a_port_taken_is_said_before_anything_starts(tiny_repository: Path) -> None:
    before = traces()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PreconditionError, match=f"Cannot listen on 127.0.0.1:{port}.*--grpc-port"):
            EmbeddedTriton(ServerOptions(repository=tiny_repository, grpc_port=port)).start()
    assert traces() <= before


def test_the_command_line_says_each_problem_and_exits_with_2(tmp_path: Path) -> None:
    command = [*SPINE_SERVER, "--repository", tmp_path / "nowhere", "--grpc-port", "99999"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 2
    assert "nowhere does not exist" in finished.stderr
    assert "99999" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_server_can_be_started_from_a_thread_that_ends(tiny_repository: Path) -> None:
    server = EmbeddedTriton(ServerOptions(repository=tiny_repository))
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        time.sleep(0.5)
        assert run_canary(server.grpc_url, timeout_s=10.0) < 10.0
    finally:
        assert server.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_start_waits_for_every_port_that_is_offered(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as grpc, socket.create_server(("127.0.0.1", 0)) as metrics:
        options = ServerOptions(
            grpc_port=grpc.getsockname()[1], metrics_port=metrics.getsockname()[1], monitor_host=host
        )
        wait_until_open(options, deadline=time.monotonic() + 5, check=lambda: None)
        metrics.close()
        with pytest.raises(CanaryError, match="metrics port"):
            wait_until_open(options, deadline=time.monotonic() + 0.2, check=lambda: None)
