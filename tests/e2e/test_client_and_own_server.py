"""What the client needs a server of its own for: shared memory, and a restart in the middle of a batch."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc as triton

from spine_client import RetryPolicy, SpineClient, Volume
from spine_client.errors import DeadlineExceeded
from spine_client.health import canary_volume
from spine_server import EmbeddedTriton, ServerOptions
from spinecore.phantom import Phantom

pytestmark = pytest.mark.slow
PATIENT = RetryPolicy(max_attempts=5000, first_pause_s=0.2, max_pause_s=0.5)


@pytest.fixture(scope="module")
def open_server() -> Iterator[EmbeddedTriton]:
    """A server that takes volumes in shared memory."""
    with EmbeddedTriton(ServerOptions(open_shared_memory=True)) as running:
        yield running


def regions_of(server: EmbeddedTriton) -> int:
    """How many regions are registered at the server."""
    with triton.InferenceServerClient(server.grpc_url) as raw:
        return len(raw.get_system_shared_memory_status().regions)


def test_answers_through_shared_memory_are_the_same(
    open_server: EmbeddedTriton, lumbar_phantom: Phantom
) -> None:
    volume = Volume(lumbar_phantom.image, lumbar_phantom.affine)
    with SpineClient(open_server.grpc_url) as plain:
        expected, segmented = plain.analyze(volume), plain.segment(volume)
    with SpineClient(open_server.grpc_url, shared_memory=True) as sharing:
        shared = sharing.analyze(volume)
        np.testing.assert_array_equal(sharing.segment(volume).labels, segmented.labels)
    np.testing.assert_array_equal(shared.labels, expected.labels)
    assert [disc.height_mm for disc in shared.discs] == [disc.height_mm for disc in expected.discs]
    assert regions_of(open_server) == 0
    assert not list(Path("/dev/shm").glob(f"spine-{os.getpid()}-*"))


def test_region_of_a_request_that_ran_out_of_time_is_unregistered_by_close(
    open_server: EmbeddedTriton, lumbar_phantom: Phantom
) -> None:
    volume = Volume(lumbar_phantom.image, lumbar_phantom.affine)
    sharing = SpineClient(open_server.grpc_url, shared_memory=True)
    with sharing, pytest.raises(DeadlineExceeded):
        sharing.analyze(volume, timeout_s=0.3)
    assert regions_of(open_server) == 0
    assert not list(Path("/dev/shm").glob(f"spine-{os.getpid()}-*"))


@pytest.mark.timeout(900)
def test_restart_of_the_real_server_in_mid_batch_loses_nothing_and_doubles_nothing() -> None:
    """Every volume has a shape of its own, so that every result shows whose it is."""
    canary = canary_volume()
    volumes = [Volume(canary.voxels[:, :, : 20 + n], canary.affine) for n in range(8)]
    first = EmbeddedTriton(ServerOptions())
    first.start()
    port = int(first.grpc_url.rpartition(":")[2])
    again: list[EmbeddedTriton] = []

    def restart() -> None:
        first.stop()
        again.append(EmbeddedTriton(replace(ServerOptions(), grpc_port=port)))
        again[0].start()

    restarting = threading.Thread(target=restart)
    try:
        with SpineClient(first.grpc_url, retry=PATIENT, timeout_s=600) as client:
            outcomes = client.analyze_many(volumes, max_concurrency=3)
            seen = [next(outcomes) for _ in range(3)]
            restarting.start()
            seen += list(outcomes)
    finally:
        restarting.join()
        for server in (first, *again):
            server.stop()
    assert sorted(outcome.index for outcome in seen) == list(range(8))
    assert all(outcome.unwrap().labels.shape == volumes[outcome.index].shape_zyx for outcome in seen)
    assert len({outcome.unwrap().request_id for outcome in seen}) == 8
