"""A Triton installed whole, as in NVIDIA's container, what is handed through to it, and the status page."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from spine_server import launch
from spine_server.distribution import find_distribution
from spine_server.errors import PreconditionError
from spine_server.options import ServerOptions
from spine_server.run_folder import available_backends, lay_out_backends
from spine_server.state_board import STUCK_AFTER_S, StateBoard


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Files where NVIDIA's container has them."""
    backends = tmp_path / "triton" / "backends"
    for name in ("../bin/tritonserver", "python/libtriton_python.so", "tensorrt/libtriton_tensorrt.so"):
        (backends / name).parent.mkdir(parents=True)
        (backends / name).touch()
    (backends / "python" / "triton_python_backend_stub").touch()
    return tmp_path / "triton"


def test_its_own_backends_are_taken_as_they_are(installed: Path, tmp_path: Path) -> None:
    distribution = find_distribution(installed)
    assert available_backends(distribution) == {"python", "tensorrt"}
    assert lay_out_backends(tmp_path / "run", distribution) == installed / "backends"
    assert not (tmp_path / "run").exists()


def test_a_triton_with_parts_missing_is_named(installed: Path) -> None:
    (installed / "backends" / "python" / "triton_python_backend_stub").unlink()
    with pytest.raises(PreconditionError) as refused:
        find_distribution(installed)
    assert "triton_python_backend_stub missing" in refused.value.problems[0]


def test_what_is_handed_through_takes_the_place_of_our_own() -> None:
    options = ServerOptions(
        metrics_port=8002,
        monitor_host="0.0.0.0",
        triton_arguments=("--log-verbose=3", "--backend-config=python,x=1", "--trace-config=rate=10"),
    )
    command = launch.command_line(
        options, executable=Path("t"), repository=Path("r"), backends=Path("b"), run_name="n"
    )
    assert [word for word in command if word.startswith("--log-verbose")] == ["--log-verbose=3"]
    assert "--backend-config=python,shm-region-prefix-name=n" in command
    assert "--grpc-address=127.0.0.1" in command and "--metrics-address=0.0.0.0" in command


@pytest.mark.parametrize("name", launch.STAGE_DEFAULTS)
def test_stages_get_their_defaults_unless_told_otherwise(
    installed: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    distribution, default = find_distribution(installed), launch.STAGE_DEFAULTS[name]
    monkeypatch.delenv(name, raising=False)
    assert launch.environment(distribution)[name] == default
    assert f"{name}={default} " in (Path(__file__).parents[2] / "server" / "Dockerfile").read_text()
    monkeypatch.setenv(name, "4")
    assert launch.environment(distribution)[name] == "4"


def test_the_status_page_tells_ready_from_alive() -> None:
    board = StateBoard()
    url = f"http://127.0.0.1:{board.serve('127.0.0.1', 0)}"

    def status(path: str) -> int:
        try:
            return int(urllib.request.urlopen(url + path, timeout=5).status)
        except urllib.error.HTTPError as error:
            return error.code

    assert (status("/live"), status("/ready"), status("/metrics"), status("/")) == (200, 503, 200, 404)
    board.set_status("ready")
    assert (status("/live"), status("/ready")) == (200, 200)
    board.set_status("reloading", "a stage has died")
    assert (status("/live"), status("/ready")) == (200, 503)
    board._beat -= STUCK_AFTER_S + 1
    assert status("/live") == 503
    board.set_status("gave_up")
    assert (status("/live"), status("/ready")) == (503, 503)
