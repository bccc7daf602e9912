"""Plain segmentation: the same inputs, labels in the network's own numbers, no report."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
import nibabel
import numpy as np
import pytest
from fake_triton import fails, input_tensors, labels_only
from tritonclient.grpc import service_pb2 as pb

from spine_client import AsyncSpineClient, SegmentationResult, Volume
from spine_client.errors import InputError, ProtocolError, RequestRejected


def test_same_request_to_another_entry_without_a_report(serve, volume: Volume) -> None:
    servicer, client = serve()
    client.analyze(volume, request_id="same")
    servicer.behaviours = (labels_only,)
    result = client.segment(volume, request_id="same")
    first, second = servicer.requests
    assert (first.model_name, second.model_name) == ("spine_mri", "segmentation")
    assert [output.name for output in second.outputs] == ["LABELS"]
    assert input_tensors(first) == input_tensors(second)
    assert isinstance(result, SegmentationResult)
    assert (result.model, result.request_id) == ("segmentation", "same")


def test_labels_and_their_volumes(serve, volume: Volume) -> None:
    _, client = serve(labels_only)
    result = client.segment(volume, model="segmentation_liver")
    assert result.labels[:2].min() == 3 == result.labels.max()
    assert result.volumes_mm3 == {3: pytest.approx(60 * 0.5 * 1.5 * 4.0)}
    assert json.loads(result.to_json()) == {
        "kind": "spineserve.segmentation",
        "model": "segmentation_liver",
        "request_id": result.request_id,
        "labels": [{"label": 3, "volume_mm3": 180.0}],
        "warnings": [],
    }


def test_saved_as_json_and_nifti(serve, volume: Volume, tmp_path: Path) -> None:
    _, client = serve(labels_only)
    result = client.segment(volume)
    written = result.save(tmp_path)
    assert {path.name for path in written.values()} == {"segmentation.json", "labels.nii.gz"}
    saved = nibabel.load(written["nifti"])
    np.testing.assert_array_equal(np.asarray(saved.dataobj).transpose(2, 1, 0), result.labels)
    with pytest.raises(InputError):
        result.save(tmp_path, formats=["sr"])


def test_errors_are_those_of_analyze(serve, volume: Volume) -> None:
    servicer, client = serve(
        fails(grpc.StatusCode.UNAVAILABLE, ""),
        fails(grpc.StatusCode.INVALID_ARGUMENT, "[spineserve:too_small] Too small."),
    )
    with pytest.raises(RequestRejected, match="Too small"):
        client.segment(volume)
    assert len(servicer.requests) == 2
    servicer.behaviours = (lambda request, context: pb.ModelInferResponse(),)
    with pytest.raises(ProtocolError):
        client.segment(volume)
    with pytest.raises(InputError):
        client.segment(volume, model="no such/model")


def test_async_and_health_know_it_too(serve, volume: Volume) -> None:
    servicer, client = serve(labels_only)

    async def main() -> SegmentationResult:
        async with AsyncSpineClient(servicer.url) as asynchronous:
            assert (await asynchronous.health(deep=True, model="segmentation")).ok
            return await asynchronous.segment(volume)

    assert asyncio.run(main()).volumes_mm3 == {3: 180.0}
    assert client.health(deep=True, model="segmentation").ok
    assert {request.model_name for request in servicer.requests} == {"segmentation"}
