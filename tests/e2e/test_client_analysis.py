"""A phantom through the SDK and the real server: as DICOM, NIfTI, an array, and from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

from spine_client import RequestRejected, SpineClient, SpineResult, Volume
from spine_client.cli import main
from spine_client.errors import AccessRefused, DeadlineExceeded
from spine_server import EmbeddedTriton
from spinecore.phantom import Phantom
from spinecore.phantom.io import write_dicom, write_nifti
from spinecore.report import schema_errors

FILES = {"report.json", "labels.nii.gz", "overlay.png", "report.html"}


@pytest.fixture(scope="module")
def client(server: EmbeddedTriton) -> Iterator[SpineClient]:
    """The SDK, connected to the session's server."""
    with SpineClient(server.grpc_url, timeout_s=120.0) as connected:
        yield connected


@pytest.fixture(scope="module")
def series(lumbar_phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom as a DICOM series."""
    folder = tmp_path_factory.mktemp("dicom")
    write_dicom(lumbar_phantom, folder)
    return folder


@pytest.fixture(scope="module")
def result(client: SpineClient, series: Path) -> SpineResult:
    """What the server finds in the DICOM series."""
    return client.analyze(series, request_id="e2e-client")


def at_places_of(labels: np.ndarray, affine: np.ndarray, grid: Volume) -> np.ndarray:
    """`labels` looked up at the voxel centres of `grid`, both placed by their affines."""
    z, y, x = np.indices(grid.shape_zyx)
    lps = grid.affine @ np.stack([x, y, z, np.ones_like(x)]).reshape(4, -1)
    i, j, k = np.round((np.linalg.inv(affine) @ lps)[:3]).astype(int)
    return labels[k, j, i].reshape(grid.shape_zyx)


def test_dicom_series_gives_labels_on_its_grid_and_a_report_by_the_schema(result: SpineResult) -> None:
    assert result.labels.shape == result.volume.shape_zyx
    assert schema_errors(result.to_dict()) == []
    assert result.report.raw["request_id"] == "e2e-client"
    segmentation = result.provenance.segmentation
    assert segmentation is not None and len(segmentation.sha256) == 64


def test_dicom_voxels_lie_where_the_phantom_has_them(result: SpineResult, lumbar_phantom: Phantom) -> None:
    """Sorting and affine together: every voxel sent is the phantom's voxel at the same place."""
    there = at_places_of(lumbar_phantom.image, lumbar_phantom.affine, result.volume)
    np.testing.assert_array_equal(result.volume.voxels, there)


def test_nifti_array_and_dicom_give_the_same_anatomy(
    client: SpineClient, result: SpineResult, lumbar_phantom: Phantom, tmp_path: Path
) -> None:
    write_nifti(lumbar_phantom, tmp_path)
    from_nifti = client.analyze(tmp_path / "image.nii.gz")
    from_array = client.analyze((lumbar_phantom.image, lumbar_phantom.affine))
    np.testing.assert_array_equal(from_nifti.labels, from_array.labels)
    there = at_places_of(from_nifti.labels, from_nifti.affine, result.volume)
    assert (there != result.labels).mean() < 0.002  # ties along the column may fall the other way


def test_saved_files_say_what_the_result_says(result: SpineResult, tmp_path: Path) -> None:
    written = result.save(tmp_path)
    assert schema_errors(json.loads(written["json"].read_text())) == []
    image = nibabel.load(written["nifti"])
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, result.labels)
    assert written["overlay"].stat().st_size > 20_000


def test_command_line_end_to_end(
    server: EmbeddedTriton, series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(series), "--out", str(tmp_path / "out"), "--url", server.grpc_url]) == 0
    assert "canal AP" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_deep_health_comes_back_from_the_real_stages(client: SpineClient) -> None:
    health = client.health(deep=True)
    assert health.ok, health.problem
    assert health.canary_s is not None and health.canary_s > 0


@pytest.mark.parametrize(
    ("voxels", "affine", "code"),
    [
        (np.arange(192).reshape(8, 8, 3), np.eye(4), "too_small"),
        (np.arange(512).reshape(8, 8, 8), np.diag([500.0, 1, 1, 1]), "spacing"),
        (np.arange(1024).reshape(2, 8, 8, 8), np.eye(4), "channels"),
    ],
)
def test_refusals_of_the_server_reach_the_caller_by_their_code(
    client: SpineClient, voxels: np.ndarray, affine: np.ndarray, code: str
) -> None:
    with pytest.raises(RequestRejected) as caught:
        client.analyze((voxels, affine))
    assert caught.value.code == code
    assert "ensemble" not in str(caught.value)


def test_a_deadline_too_short_is_told_and_the_next_request_is_answered(
    client: SpineClient, result: SpineResult
) -> None:
    with pytest.raises(DeadlineExceeded):
        client.analyze(result.volume, timeout_s=0.15)
    again = client.analyze(result.volume)
    np.testing.assert_array_equal(again.labels, result.labels)


def test_plain_segmentation_gives_the_networks_own_numbers(client: SpineClient, result: SpineResult) -> None:
    plain = client.segment(result.volume)
    assert plain.labels.shape == result.volume.shape_zyx
    assert set(np.unique(plain.labels)) <= set(range(6))
    found, named = plain.labels > 0, result.labels > 0
    assert (found & named).sum() > 0.98 * named.sum()  # the analysis drops specks, and adds nothing
    assert client.health(deep=True, model="segmentation").ok


def test_server_as_started_by_default_takes_no_shared_memory(
    server: EmbeddedTriton, result: SpineResult
) -> None:
    sharing = SpineClient(server.grpc_url, shared_memory=True)
    with sharing, pytest.raises(AccessRefused, match="--open-shared-memory"):
        sharing.analyze(result.volume)
