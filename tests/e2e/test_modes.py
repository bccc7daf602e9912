"""The modes through the SDK and the real server: what runs, what the report says, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from spine_client import AnalyzeOptions, RequestRejected, SpineClient, Volume
from spine_server import EmbeddedTriton, ServerOptions
from spinecore.phantom import Phantom
from spinecore.report import schema_errors


def volume_of(phantom: Phantom) -> Volume:
    return Volume(phantom.image, phantom.affine)


def dice(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean over the classes with more than 1,000 voxels."""
    numbers, counts = np.unique(theirs, return_counts=True)
    counted = [n for n, count in zip(numbers, counts, strict=True) if n and count > 1000]
    both = [((ours == n) & (theirs == n)).sum() / ((ours == n).sum() + (theirs == n).sum()) for n in counted]
    return 2.0 * float(np.mean(both))


def test_fast_runs_fewer_tiles_and_the_report_says_so(
    server: EmbeddedTriton, lumbar_phantom: Phantom
) -> None:
    with SpineClient(server.grpc_url, timeout_s=120.0) as client:
        raw = client.analyze(volume_of(lumbar_phantom), options=AnalyzeOptions(mode="fast")).report.raw
        plain = client.analyze(volume_of(lumbar_phantom)).report.raw
    assert schema_errors(raw) == schema_errors(plain) == []
    run, all_of_them = raw["segmentation"], plain["segmentation"]
    assert (run["mode"], all_of_them["mode"]) == ("fast", "default")
    assert run["tiles"] == all_of_them["tiles"] == all_of_them["tiles_run"] >= run["tiles_run"] > 0


def test_a_mode_that_is_not_offered_is_refused_by_name(
    server: EmbeddedTriton, lumbar_phantom: Phantom
) -> None:
    with (
        SpineClient(server.grpc_url, timeout_s=120.0) as client,
        pytest.raises(RequestRejected) as refused,
    ):
        client.analyze(volume_of(lumbar_phantom), options=AnalyzeOptions(mode="exact"))
    assert refused.value.code == "mode_unavailable"


@pytest.mark.slow
def test_exact_is_answered_by_a_second_network_in_float32(lumbar_phantom: Phantom) -> None:
    with (
        EmbeddedTriton(ServerOptions(exact=True)) as own,
        SpineClient(own.grpc_url, timeout_s=120.0) as client,
    ):
        volume, exact = volume_of(lumbar_phantom), AnalyzeOptions(mode="exact")
        run = client.analyze(volume, options=exact).report.raw["segmentation"]
        assert (run["mode"], run["network"]) == ("exact", "nnunet_exact")
        assert run["tiles"] == run["tiles_run"]
        labels = client.segment(volume, options=exact).labels
        assert dice(client.segment(volume).labels, labels) >= 0.99
