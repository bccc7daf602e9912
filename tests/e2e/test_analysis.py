"""A phantom goes through the whole ensemble of the real server."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from spine_server import EmbeddedTriton
from spinecore import contract
from spinecore.geometry import Volume
from spinecore.labels import Class
from spinecore.phantom import Phantom, PhantomConfig, make_phantom
from spinecore.report import schema_errors

from .conftest import Ask

Tensors = dict[str, NDArray[Any]]


def report_of(answer: Tensors) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(answer["REPORT"][0])
    return report


def test_a_volume_comes_back_as_labels_on_its_grid_and_a_report_by_the_schema(
    ask: Ask, good: Tensors, volume: Volume
) -> None:
    answer = ask("spine_mri", good, id="study-1")
    labels, report = answer["LABELS"], report_of(answer)
    assert labels.dtype == np.uint8 and labels.shape == volume.voxels.shape[1:]
    assert schema_errors(report) == []
    assert report["request_id"] == "study-1"
    assert report["input"]["shape_zyx"] == list(volume.voxels.shape[1:])
    assert report["input"]["orientation"] == "PIR"
    assert set(report["timings_s"]) == {"preprocess", "segment", "identify", "measure"}
    named = {disc["label"] for disc in report["discs"]} | {each["label"] for each in report["vertebrae"]}
    assert named <= set(np.unique(labels).tolist())
    for model in report["models"].values():
        assert re.fullmatch("[0-9a-f]{64}", model["sha256"])


def test_the_label_map_lies_on_the_phantoms_anatomy(ask: Ask, good: Tensors, lumbar_phantom: Phantom) -> None:
    """Dice against the truth: a turned axis, a shift or a wrong class order would show at once."""
    labels = ask("spine_mri", good)["LABELS"]
    for found, true in (
        ((labels > 100) & (labels < 200), lumbar_phantom.classes == Class.DISC),
        ((labels >= 1) & (labels < 26), lumbar_phantom.classes == Class.BODY),
        (labels == 61, lumbar_phantom.classes == Class.CANAL),
    ):
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.7


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_other_voxel_types_give_the_same_label_map(
    ask: Ask, good: Tensors, volume: Volume, dtype: str
) -> None:
    same = contract.encode_volume(Volume(volume.voxels.astype(dtype), volume.affine))
    np.testing.assert_array_equal(ask("spine_mri", same)["LABELS"], ask("spine_mri", good)["LABELS"])


def test_a_volume_stored_in_another_order_gives_the_same_anatomy(ask: Ask, volume: Volume) -> None:
    """Flip the slices and their direction in the affine: the label map must flip with them."""
    flipped_affine = volume.affine.copy()
    flipped_affine[:3, 2] *= -1
    flipped_affine[:3, 3] += volume.affine[:3, 2] * (volume.voxels.shape[1] - 1)
    flipped = contract.encode_volume(Volume(volume.voxels[:, ::-1].copy(), flipped_affine))
    straight = ask("spine_mri", contract.encode_volume(volume))["LABELS"]
    differing = ask("spine_mri", flipped)["LABELS"][::-1] != straight
    assert differing.mean() < 0.002  # ties along the column may fall the other way


def test_requests_at_once_get_the_same_answers_as_one_alone(ask: Ask, good: Tensors) -> None:
    alone = ask("spine_mri", good)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda number: ask("spine_mri", good, id=f"at-once-{number}"), range(3)))
    for number, answer in enumerate(together):
        np.testing.assert_array_equal(answer["LABELS"], alone["LABELS"])
        report = report_of(answer)
        assert report["request_id"] == f"at-once-{number}"
        varying = {"request_id": "", "timings_s": {}}
        assert report | varying == report_of(alone) | varying


def test_a_volume_without_a_spine_gives_a_report_without_levels_and_a_warning(ask: Ask) -> None:
    phantom = make_phantom(
        PhantomConfig(seed=900_012, region="none", spacing_mm=(4.0, 1.25, 1.25), fov_mm=(150.0, 130.0, 64.0))
    )
    answer = ask("spine_mri", contract.encode_volume(Volume(phantom.image[np.newaxis], phantom.affine)))
    report = report_of(answer)
    assert report["discs"] == [] and report["vertebrae"] == []
    assert [warning["code"] for warning in report["warnings"]] == ["no_spine"]
    assert not answer["LABELS"].any()


def test_without_any_class_the_inner_stages_report_no_spine(ask: Ask, small: Tensors) -> None:
    found = ask("identify", {**small, "CLASSES": np.zeros(512, np.uint8)})
    assert not found["LABELS"].any()
    report = report_of(ask("report", {name: found[name] for name in ("FINDINGS", "PATCHES")}))
    assert report["discs"] == [] and report["timings_s"].keys() == {"measure"}
    assert [warning["code"] for warning in report["warnings"]] == ["no_spine"]


def test_options_reach_the_stages(ask: Ask, good: Tensors) -> None:
    options = np.array([b'{"window_center": 200, "window_width": 100, "step_size": 1.0}'], object)
    plain, asked = (ask("preprocess", tensors) for tensors in (good, {**good, "OPTIONS": options}))
    assert json.loads(asked["PLAN"][0])["step_size"] == 1.0 != json.loads(plain["PLAN"][0])["step_size"]
    assert (plain["DATA"] != asked["DATA"]).any()


def test_every_stage_logs_the_request_id_and_nothing_of_the_volume(
    ask: Ask, good: Tensors, server_log: Path
) -> None:
    ask("spine_mri", good, id="traced-42")
    deadline = time.monotonic() + 5
    lines: list[str] = []
    while len(lines) < 6 and time.monotonic() < deadline:
        lines = [line for line in server_log.read_text().splitlines() if "request=traced-42 " in line]
    stages = {match[1] for line in lines if (match := re.search(r"stage=(\w+) outcome=\w+ ms=[\d.]+", line))}
    assert stages == {"preprocess", "segment", "nnunet", "identify", "measure_cnn", "report"}


def test_a_cancelled_segmentation_stops_between_patches(ask: Ask, server: EmbeddedTriton) -> None:
    """Many patches are asked for; after the caller has gone, at most the running one is finished."""
    phantom = make_phantom(
        PhantomConfig(
            seed=1, region="lumbar", spacing_mm=(1.5, 1.5, 4.0), orientation="LPS", fov_mm=(380, 250, 90)
        )
    )
    request = contract.encode_volume(Volume(phantom.image[np.newaxis], phantom.affine))
    prepared = ask("preprocess", {**request, "OPTIONS": np.array([b'{"step_size": 0.1}'], object)})
    tensors = {name: prepared[name] for name in ("DATA", "DATA_SHAPE", "PLAN")}
    before = patches_done(ask)
    with pytest.raises(grpc.RpcError) as late:
        ask("segment", tensors, timeout_s=3.0)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    at_deadline = patches_done(ask)
    time.sleep(4)
    assert at_deadline > before
    assert patches_done(ask) - at_deadline <= 2


def patches_done(ask: Ask) -> int:
    answer = ask.stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name="nnunet"))
    return int(answer.model_stats[0].inference_count)
