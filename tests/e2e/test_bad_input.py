"""Every broken request gets its own clear error, and the server goes on.

After each one the same stage must refuse a second broken request from within its own code: that shows that
the stage still runs. At the end a good volume gets the answer it got before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from spinecore import contract
from spinecore.geometry import Volume

from .conftest import Ask, RawTensor

Tensors = dict[str, NDArray[Any]]
Expect = Callable[..., None]

HUGE = 2**62
EYE = np.eye(4).reshape(16)


def text(value: bytes) -> NDArray[Any]:
    return np.array([value], object)


def shape(*sizes: int) -> NDArray[np.int64]:
    return np.array(sizes, np.int64)


def affine(**changes: Any) -> NDArray[np.float64]:
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    for place, value in changes.items():
        matrix[int(place[1]), int(place[2])] = value
    return matrix.reshape(16)


def voxels(value: float, *, at: int | None = None) -> Tensors:
    """8 × 8 × 8 float32 voxels of noise with one replaced, or all."""
    array = np.random.default_rng(0).random(512).astype(np.float32)
    array[slice(None) if at is None else at] = value
    return {"VOLUME": array.view(np.uint8), "DTYPE": text(b"float32")}


@pytest.fixture(scope="module", autouse=True)
def answers_as_before(ask: Ask, volume: Any) -> Any:
    """A good volume gets the same labels after all the broken requests as before them."""
    request = contract.encode_volume(volume)
    before = ask("spine_mri", request)["LABELS"]
    yield
    np.testing.assert_array_equal(ask("spine_mri", request)["LABELS"], before)


BROKEN_VOLUMES: dict[str, tuple[Tensors, str]] = {
    "too few bytes": ({"VOLUME": np.zeros(1023, np.uint8)}, "byte_count"),
    "too many bytes": ({"VOLUME": np.zeros(1025, np.uint8)}, "byte_count"),
    "no bytes": ({"VOLUME": np.zeros(0, np.uint8)}, "byte_count"),
    "other type than stated": ({"DTYPE": text(b"float32")}, "byte_count"),
    "absurd side": ({"SHAPE": shape(1, HUGE, 4, 1)}, "shape_limit"),
    "product wraps to the byte count": ({"SHAPE": shape(1, HUGE, 4, 4)}, "shape_limit"),
    "product wraps past 2^128": ({"SHAPE": shape(2**60, 2**60, 2**60, 2**60)}, "shape_limit"),
    "largest integer": ({"SHAPE": shape(1, 2**63 - 1, 8, 8)}, "shape_limit"),
    "too many channels": ({"SHAPE": shape(512, 1, 1, 1)}, "shape_limit"),
    "zero": ({"SHAPE": shape(1, 0, 8, 8)}, "shape"),
    "negative": ({"SHAPE": shape(1, -8, -8, 8)}, "shape"),
    "smallest integer": ({"SHAPE": shape(1, -(2**63), 8, 8)}, "shape"),
    "single slice": ({"SHAPE": shape(1, 1, 16, 32)}, "single_slice"),
    "two slices": ({"SHAPE": shape(1, 2, 16, 16)}, "too_small"),
    "two channels for a network of one": ({"SHAPE": shape(2, 4, 8, 8)}, "channels"),
    "unknown type": ({"DTYPE": text(b"int8")}, "dtype"),
    "no type": ({"DTYPE": text(b"")}, "dtype"),
    "type that is no text": ({"DTYPE": text(b"\xff\xfe\x00\x80")}, "dtype"),
    "type of a million letters": ({"DTYPE": text(b"int16" * 200_000)}, "dtype"),
    "NaN voxel": (voxels(np.nan, at=77), "not_finite"),
    "infinite voxel": (voxels(np.inf, at=0), "not_finite"),
    "voxels beyond measure": (voxels(3e38, at=5), "intensity"),
    "constant image": (voxels(3.0), "constant_image"),
    "black image": (voxels(0.0), "constant_image"),
    "NaN affine": ({"AFFINE": affine(a01=np.nan)}, "affine"),
    "infinite affine": ({"AFFINE": affine(a03=np.inf)}, "affine"),
    "affine with a wrong last row": ({"AFFINE": affine(a33=2.0)}, "affine"),
    "affine of zeros": ({"AFFINE": np.zeros(16)}, "affine"),
    "flat affine": ({"AFFINE": affine(a00=0.0)}, "affine_singular"),
    "sheared affine": ({"AFFINE": affine(a01=1.0)}, "affine_sheared"),
    "voxels of a nanometre": ({"AFFINE": affine(a00=1e-6)}, "spacing"),
    "voxels of a metre": ({"AFFINE": affine(a22=1000.0)}, "spacing"),
    "options that are no JSON": ({"OPTIONS": text(b"{region: lumbar}")}, "options_json"),
    "options that are no object": ({"OPTIONS": text(b"[1, 2]")}, "options_json"),
    "options that are no text": ({"OPTIONS": text(b"\xff\xfe{}")}, "options_json"),
    "options nested deeply": ({"OPTIONS": text(b"[" * 4000)}, "options_json"),
    "options without end": ({"OPTIONS": text(b'{"region": "' + b"l" * 10**6 + b'"}')}, "options_size"),
    "unknown option": ({"OPTIONS": text(b'{"regoin": "lumbar"}')}, "options_key"),
    "unknown region": ({"OPTIONS": text(b'{"region": "tail"}')}, "options_value"),
    "option of another type": ({"OPTIONS": text(b'{"mirroring": "yes"}')}, "options_value"),
    "NaN option": ({"OPTIONS": text(b'{"step_size": NaN}')}, "options_value"),
    "step of nothing": ({"OPTIONS": text(b'{"step_size": 1e-9}')}, "options_value"),
    "half a window": ({"OPTIONS": text(b'{"window_center": 5}')}, "options_value"),
}


@pytest.mark.parametrize("case", BROKEN_VOLUMES)
@pytest.mark.parametrize("model", ["spine_mri", "preprocess"])
def test_broken_volumes_get_their_own_error(
    ask: Ask, expect_code: Expect, small: Tensors, model: str, case: str
) -> None:
    changes, code = BROKEN_VOLUMES[case]
    expect_code(model, {**small, **changes}, code)
    expect_code("preprocess", {**small, "SHAPE": shape(1, 1, 16, 32)}, "single_slice")


WIRE_FAULTS: dict[str, dict[str, RawTensor]] = {
    "volume of another datatype": {"VOLUME": RawTensor("FP32", (256,), bytes(1024))},
    "volume of several dimensions": {"VOLUME": RawTensor("UINT8", (32, 32), bytes(1024))},
    "volume of 2^62 bytes that are not there": {"VOLUME": RawTensor("UINT8", (HUGE,), b"")},
    "volume of fewer bytes than stated": {"VOLUME": RawTensor("UINT8", (1024,), bytes(10))},
    "volume of a negative size": {"VOLUME": RawTensor("UINT8", (-1,), b"")},
    "shape of three sizes": {"SHAPE": RawTensor("INT64", (3,), bytes(24))},
    "shape of 2^62 sizes": {"SHAPE": RawTensor("INT64", (HUGE,), b"")},
    "affine of fifteen numbers": {"AFFINE": RawTensor("FP64", (15,), bytes(120))},
    "affine as a matrix": {"AFFINE": RawTensor("FP64", (4, 4), bytes(128))},
    "two types": {"DTYPE": RawTensor("BYTES", (2,), b"\5\0\0\0int16" * 2)},
    "no type at all": {"DTYPE": RawTensor("BYTES", (0,), b"")},
    "string longer than its bytes": {"DTYPE": RawTensor("BYTES", (1,), b"\xff\xff\xff\xffint16")},
    "string without its length": {"DTYPE": RawTensor("BYTES", (1,), b"in")},
    "2^62 options": {"OPTIONS": RawTensor("BYTES", (HUGE,), b"")},
    "unknown input": {"PATIENT": RawTensor("BYTES", (1,), b"\0\0\0\0")},
    "unknown datatype": {"VOLUME": RawTensor("FP8", (1024,), bytes(1024))},
}


@pytest.mark.parametrize("case", WIRE_FAULTS)
@pytest.mark.parametrize("model", ["spine_mri", "preprocess", "identify"])
def test_tensors_that_contradict_themselves_are_refused(
    ask: Ask, expect_code: Expect, small: Tensors, model: str, case: str
) -> None:
    classes = {"CLASSES": np.zeros(512, np.uint8)} if model == "identify" else {}
    error = ask.refused(model, {**small, **classes, **WIRE_FAULTS[case]})
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    stage = "preprocess" if model == "spine_mri" else model
    expect_code(stage, {**small, **classes, "SHAPE": shape(1, 1, 16, 32)}, "single_slice")


@pytest.mark.parametrize("missing", ["VOLUME", "SHAPE", "DTYPE", "AFFINE"])
def test_a_missing_tensor_is_refused(ask: Ask, small: Tensors, missing: str) -> None:
    error = ask.refused("spine_mri", {name: each for name, each in small.items() if name != missing})
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_models_and_outputs_are_refused(ask: Ask, small: Tensors) -> None:
    assert ask.refused("no_such_model", small).code() in (
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNAVAILABLE,
    )
    unknown = service_pb2.ModelInferRequest.InferRequestedOutputTensor(name="SECRETS")
    assert ask.refused("spine_mri", small, outputs=[unknown]).code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def prepared(ask: Ask) -> Tensors:
    """What `preprocess` hands to `segment` for a small volume."""
    noise = np.random.default_rng(0).integers(0, 500, (1, 8, 8, 8), dtype=np.int16)
    answer = ask("preprocess", contract.encode_volume(Volume(noise, np.diag([2.0, 2.0, 2.0, 1.0]))))
    return {name: answer[name] for name in ("DATA", "DATA_SHAPE", "PLAN")}


def plan_with(prepared: Tensors, **changes: Any) -> Tensors:
    return {**prepared, "PLAN": text(json.dumps(json.loads(prepared["PLAN"][0]) | changes).encode())}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"DATA": np.zeros(7, np.uint8)}, "data"),
        ({"DATA_SHAPE": shape(1, HUGE, 4, 1)}, "data"),
        ({"DATA_SHAPE": shape(0, 0, 0, 0)}, "data"),
        ({"PLAN": text(b"")}, "plan"),
        ({"PLAN": text(b"null")}, "plan"),
        ({"PLAN": text(b"\xff")}, "plan"),
        ({"PLAN": text(b"{" * 10_000)}, "plan"),
    ],
)
def test_segment_takes_only_what_preprocess_wrote(
    expect_code: Expect, prepared: Tensors, changes: Tensors, code: str
) -> None:
    expect_code("segment", {**prepared, **changes}, code)


@pytest.mark.parametrize(
    "changes",
    [
        {"input_shape": [HUGE, HUGE, HUGE]},
        {"input_shape": [-1, 8, 8]},
        {"network_shape": [2**40, 2**40, 2**40]},
        {"crop": [[0, 9], [0, 8], [0, 8]]},
        {"crop": [[4, 4], [0, 8], [0, 8]]},
        {"transpose_forward": [0, 0, 0]},
        {"network_orientation": "XYZ"},
        {"spacing_mm": [0.0, 1.0, 1.0]},
        {"step_size": 1e-12},
        {"mirror_axes": [7]},
        {"mirror_axes": "0"},
        {"extra": 1},
    ],
)
def test_segment_refuses_plans_that_no_volume_has(
    expect_code: Expect, prepared: Tensors, changes: dict[str, Any]
) -> None:
    expect_code("segment", plan_with(prepared, **changes), "plan")


def test_segment_refuses_a_plan_for_another_network(expect_code: Expect, prepared: Tensors) -> None:
    expect_code("segment", plan_with(prepared, network_spacing_mm=[9.0, 9.0, 9.0]), "data")


def test_segment_refuses_data_that_is_not_finite(expect_code: Expect, prepared: Tensors) -> None:
    data = np.full(prepared["DATA"].size // 4, np.nan, np.float32).view(np.uint8)
    expect_code("segment", {**prepared, "DATA": data}, "data")


@pytest.mark.parametrize("size", [0, 1, 511, 513])
def test_identify_refuses_classes_of_another_size(expect_code: Expect, small: Tensors, size: int) -> None:
    expect_code("identify", {**small, "CLASSES": np.zeros(size, np.uint8)}, "classes")


def test_identify_survives_any_classes(ask: Ask, small: Tensors) -> None:
    """Class numbers that the network does not have, everywhere at random."""
    for seed in range(5):
        classes = np.random.default_rng(seed).integers(0, 256, 512, dtype=np.uint8)
        assert ask("identify", {**small, "CLASSES": classes})["LABELS"].shape == (8, 8, 8)


@pytest.fixture(scope="module")
def found(ask: Ask) -> Tensors:
    """What `identify` hands to `report` for a volume without a spine."""
    noise = np.random.default_rng(0).integers(0, 500, (1, 8, 8, 8), dtype=np.int16)
    request = contract.encode_volume(Volume(noise, np.diag([2.0, 2.0, 2.0, 1.0])))
    answer = ask("identify", {**request, "CLASSES": np.zeros(512, np.uint8)})
    return {name: answer[name] for name in ("FINDINGS", "PATCHES")}


@pytest.mark.parametrize(
    "findings",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"discs": [{}]}',
        b" " * 2**21,
        b'{"discs": NaN}',
    ],
)
def test_report_takes_only_what_identify_wrote(expect_code: Expect, found: Tensors, findings: bytes) -> None:
    expect_code("report", {**found, "FINDINGS": text(findings)}, "findings")


@pytest.mark.parametrize("size", [1, 4, 2**19 * 4 - 1, 33 * 2**19 * 4])
def test_report_refuses_patches_of_no_whole_number(expect_code: Expect, found: Tensors, size: int) -> None:
    expect_code("report", {**found, "PATCHES": np.zeros(size, np.uint8)}, "patches")


def test_report_refuses_patches_that_are_not_finite(expect_code: Expect, found: Tensors) -> None:
    patch = np.full(4 * 64 * 64 * 32, np.nan, np.float32).view(np.uint8)
    expect_code("report", {**found, "PATCHES": patch}, "patches")


@pytest.mark.parametrize("seconds", [np.nan, np.inf, -1.0])
def test_report_refuses_impossible_seconds(expect_code: Expect, found: Tensors, seconds: float) -> None:
    expect_code("report", {**found, "SEGMENT_SECONDS": np.array([seconds])}, "seconds")


@pytest.mark.parametrize(
    ("model", "name", "sizes"),
    [
        ("measure_cnn", "PATCHES", (2**45, 8, 64, 64, 32)),
        ("measure_cnn", "PATCHES", (HUGE, 8, 64, 64, 32)),
        ("measure_cnn", "PATCHES", (33, 8, 64, 64, 32)),
        ("measure_cnn", "PATCHES", (0, 8, 64, 64, 32)),
        ("measure_cnn", "PATCHES", (1, HUGE, 8, 1, 1)),
        ("nnunet", "PATCH", (2**42, 1, 128, 128, 64)),
        ("nnunet", "PATCH", (0, 1, 128, 128, 64)),
        ("nnunet", "PATCH", (1, 1, 128, 128)),
    ],
)
def test_networks_refuse_hostile_shapes(ask: Ask, model: str, name: str, sizes: tuple[int, ...]) -> None:
    error = ask.refused(model, {name: RawTensor("FP32", sizes, b"")})
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_the_measurement_network_still_answers(ask: Ask) -> None:
    patches = np.random.default_rng(0).random((2, 8, 64, 64, 32), np.float32)
    answer = ask("measure_cnn", {"PATCHES": patches})
    assert answer["DISC_HEIGHT_MM"].shape == (2, 4) and answer["CANAL_AP_MM"].shape == (2, 1)


def test_more_than_the_queue_holds_is_turned_away_at_once_as_unavailable(ask: Ask, prepared: Tensors) -> None:
    """`segment` holds 2 requests in work and 16 waiting; the others learn it at once and can go elsewhere.

    Once the callers have gone the queue empties, and the next request is answered.
    """
    request = ask.request("segment", prepared)
    calls = [ask.stub.ModelInfer.future(request, timeout=60) for _ in range(40)]
    deadline = time.monotonic() + 10.0
    refused: list[Any] = []
    while len(refused) < 12 and time.monotonic() < deadline:
        time.sleep(0.2)
        refused = [call for call in calls if call.done() and call.exception() is not None]
    for call in calls:
        call.cancel()
    assert 12 <= len(refused) <= 24
    assert {call.code() for call in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert all("maximum queue size" in call.details() for call in refused)
    while time.monotonic() < deadline + 60.0:
        answer = ask.stub.ModelInfer.future(request, timeout=60)
        if answer.exception() is None:
            return
        assert answer.code() == grpc.StatusCode.UNAVAILABLE
        time.sleep(0.2)
    pytest.fail("the queue did not empty")
