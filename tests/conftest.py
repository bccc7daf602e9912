"""What tests of several folders share: one real server for the session, and a small phantom to send to it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from spine_server import EmbeddedTriton, ServerOptions
from spinecore.phantom import SMALL_LUMBAR, Phantom, make_phantom


@pytest.fixture(autouse=True)
def sigterm_left_alone() -> Iterator[None]:
    """A handler that a test leaves behind is inherited by forked workers, which then may not end."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture(scope="session")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the session's server writes its log."""
    return tmp_path_factory.mktemp("server") / "triton.log"


@pytest.fixture(scope="session")
def server(server_log: Path) -> Iterator[EmbeddedTriton]:
    """The real Triton with the checkout's model repository, CPU profile, ready for requests."""
    with EmbeddedTriton(ServerOptions(log_level="info", log_file=server_log, metrics_port=0)) as running:
        yield running


@pytest.fixture(scope="session")
def lumbar_phantom() -> Phantom:
    """A small lumbar volume: sagittal slices, anisotropic, one patch of the network covers it."""
    return make_phantom(SMALL_LUMBAR)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images beside the checkout; they are not part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real test images (../shared/data) are not on this machine")
    return folder
