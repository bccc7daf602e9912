"""What the server takes in, and what it says about what it does not take."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinecore.contract import (
    DTYPES,
    MAX_OPTIONS_BYTES,
    MODELS,
    Options,
    Run,
    decode_classes,
    decode_options,
    decode_patches,
    decode_prepared,
    decode_run,
    decode_volume,
    encode_classes,
    encode_patches,
    encode_prepared,
    encode_run,
    encode_volume,
    network_model,
)
from spinecore.errors import InputError
from spinecore.geometry import Volume
from spinecore.network_spec import Channel, NetworkSpec
from spinecore.plan import Plan
from spinecore.preprocessing import preprocess

AFFINE = np.diag([0.6, 0.6, 4.4, 1.0])


def a_request(dtype: str = "float32") -> dict[str, Any]:
    voxels = np.random.default_rng(0).integers(0, 900, size=(1, 5, 6, 7)).astype(DTYPES[dtype])
    return encode_volume(Volume(voxels, AFFINE))


def decode(request: dict[str, Any]) -> Volume:
    return decode_volume(request["VOLUME"], request["SHAPE"], request["DTYPE"], request["AFFINE"])


def a_spec() -> NetworkSpec:
    return NetworkSpec(
        name="tiny",
        spacing_mm=(1.25, 1.25, 1.25),
        patch_size=(16, 16, 16),
        channels=(Channel("MR", "ZScoreNormalization"),),
        labels={"background": 0, "body": 1},
        num_outputs=2,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_volume_comes_through_unchanged_and_uncopied(dtype: str) -> None:
    request = a_request(dtype)
    volume = decode(request)
    assert volume.voxels.dtype == DTYPES[dtype]
    np.testing.assert_array_equal(volume.voxels.reshape(-1).view(np.uint8), request["VOLUME"])
    np.testing.assert_array_equal(volume.affine, AFFINE)
    assert np.shares_memory(volume.voxels, request["VOLUME"])


def voxels_with(value: float) -> np.ndarray:
    voxels = np.arange(210, dtype=np.float32)
    voxels[17] = value
    return voxels.view(np.uint8)


def affine_with(row: int, column: int, value: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[row, column] = value
    return affine.reshape(16)


BAD_REQUESTS = {
    "zero side": ("SHAPE", np.array([1, 5, 0, 7]), "shape"),
    "negative side": ("SHAPE", np.array([1, -5, 6, 7]), "shape"),
    "three sizes": ("SHAPE", np.array([5, 6, 7]), "shape"),
    "wrapping shape": ("SHAPE", np.array([2**62, 4, 4, 4]), "shape_limit"),
    "long side": ("SHAPE", np.array([1, 4096, 6, 7]), "shape_limit"),
    "too many voxels": ("SHAPE", np.array([1, 1024, 1024, 1024]), "shape_limit"),
    "too many channels": ("SHAPE", np.array([99, 5, 6, 7]), "shape_limit"),
    "single slice": ("SHAPE", np.array([1, 1, 30, 7]), "single_slice"),
    "three slices": ("SHAPE", np.array([1, 3, 10, 7]), "too_small"),
    "unknown dtype": ("DTYPE", np.array([b"float64"], dtype=object), "dtype"),
    "two dtypes": ("DTYPE", np.array([b"int16", b"int16"], dtype=object), "shape"),
    "short payload": ("VOLUME", np.zeros(839, dtype=np.uint8), "byte_count"),
    "long payload": ("VOLUME", np.zeros(841, dtype=np.uint8), "byte_count"),
    "empty payload": ("VOLUME", np.zeros(0, dtype=np.uint8), "byte_count"),
    "NaN": ("VOLUME", voxels_with(np.nan), "not_finite"),
    "infinity": ("VOLUME", voxels_with(-np.inf), "not_finite"),
    "absurd value": ("VOLUME", voxels_with(1e30), "intensity"),
    "constant": ("VOLUME", np.full(210, 3.0, dtype=np.float32).view(np.uint8), "constant_image"),
    "NaN in affine": ("AFFINE", affine_with(0, 0, np.nan), "affine"),
    "15 numbers": ("AFFINE", np.zeros(15), "affine"),
    "last row": ("AFFINE", affine_with(3, 0, 1.0), "affine"),
    "far away": ("AFFINE", affine_with(0, 3, 1e9), "affine"),
    "zero axis": ("AFFINE", affine_with(2, 2, 0.0), "affine_singular"),
    "parallel axes": (
        "AFFINE",
        np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        "affine_singular",
    ),
    "shear": ("AFFINE", affine_with(1, 2, 0.5), "affine_sheared"),
    "thick voxels": ("AFFINE", affine_with(2, 2, 400.0), "spacing"),
    "tiny voxels": ("AFFINE", affine_with(0, 0, 1e-4), "spacing"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_with_its_own_code(name: str) -> None:
    tensor, value, code = BAD_REQUESTS[name]
    with pytest.raises(InputError) as caught:
        decode({**a_request(), tensor: value})
    assert caught.value.code == code
    assert str(caught.value).endswith(".")


def test_sizes_are_checked_before_the_payload_is_touched() -> None:
    request = {**a_request(), "SHAPE": np.array([16, 2048, 2048, 2048])}
    with pytest.raises(InputError, match="too large"):
        decode(request)


@given(shape=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=0, max_size=6), size=st.integers(0, 64))
@settings(max_examples=200, deadline=None)
def test_no_shape_gets_anything_but_an_input_error(shape: list[int], size: int) -> None:
    with pytest.raises(InputError):
        decode_volume(np.zeros(size, np.uint8), np.array(shape, dtype=np.int64), b"int16", AFFINE.reshape(16))


def test_no_options_are_the_defaults() -> None:
    for nothing in (None, b"", np.array([b""], dtype=object)):
        assert decode_options(nothing) == Options(mirroring=None, step_size=None, region=None)


def test_all_options_are_read() -> None:
    wanted = {
        "region": "lumbar",
        "window_center": 400,
        "window_width": 800.5,
        "mirroring": True,
        "step_size": 1,
    }
    options = decode_options(np.array([json.dumps(wanted).encode()], dtype=object))
    assert options == Options("lumbar", 400, 800.5, True, 1)


BAD_OPTIONS = {
    '{"regoin": "lumbar"}': "options_key",
    '{"region": "sacral"}': "options_value",
    '{"region": 3}': "options_value",
    '{"mirroring": 1}': "options_value",
    '{"mode": "quick"}': "options_value",
    '{"mode": ["fast"]}': "options_value",
    '{"step_size": 0}': "options_value",
    '{"step_size": 1.5}': "options_value",
    '{"step_size": 1e-9}': "options_value",
    '{"step_size": "0.5"}': "options_value",
    '{"step_size": NaN}': "options_value",
    '{"step_size": ' + "1" * 1000 + "}": "options_value",
    '{"window_center": 4}': "options_value",
    '{"window_center": 4, "window_width": 0}': "options_value",
    "[]": "options_json",
    "{": "options_json",
    "[" * 4000: "options_json",
    '{"region": "' + "x" * MAX_OPTIONS_BYTES + '"}': "options_size",
}


@pytest.mark.parametrize("text", BAD_OPTIONS)
def test_bad_options_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_options(text)
    assert caught.value.code == BAD_OPTIONS[text]


def test_options_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(InputError, match="UTF-8"):
        decode_options(b"\xff\xfe{}")


def test_prepared_data_comes_through_the_inner_tensors() -> None:
    prepared = preprocess(decode(a_request()), a_spec())
    tensors = encode_prepared(prepared)
    again = decode_prepared(tensors["DATA"], tensors["DATA_SHAPE"], tensors["PLAN"])
    np.testing.assert_array_equal(again.data, prepared.data)
    assert again.plan == prepared.plan


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        ("DATA", np.zeros(3, np.uint8)),
        ("DATA_SHAPE", np.array([1, 2**40, 2**40, 4])),
        ("DATA_SHAPE", np.array([1, 1, 1, 1])),
        ("PLAN", b"{}"),
        ("PLAN", b"not json"),
        ("PLAN", b"[" * 100_000),
    ],
)
def test_inner_tensors_from_elsewhere_are_refused(tensor: str, value: Any) -> None:
    tensors = {**encode_prepared(preprocess(decode(a_request()), a_spec())), tensor: value}
    with pytest.raises(InputError) as caught:
        decode_prepared(tensors["DATA"], tensors["DATA_SHAPE"], tensors["PLAN"])
    assert caught.value.code in ("data", "plan")


def forged(**changes: Any) -> str:
    plan = json.loads(preprocess(decode(a_request()), a_spec()).plan.to_json())
    return json.dumps({**plan, **changes})


@pytest.mark.parametrize(
    "text",
    [
        forged(input_shape=[10**6, 10**6, 10**6]),
        forged(network_shape=[10**6, 10**6, 10**6]),
        forged(network_shape=[10**6, 1, 1]),
        forged(input_shape=[10**6, 6, 7], crop=[[0, 10**6], [0, 6], [0, 7]]),
        forged(network_shape=[4.5, 4, 4]),
        forged(network_shape=[True, 4, 4]),
        forged(crop=[[0, 99], [0, 6], [0, 7]]),
        forged(crop=[[3, 3], [0, 6], [0, 7]]),
        forged(crop=[[0, 5], [0, 6]]),
        forged(source_orientation="LLL"),
        forged(transpose_forward=[0, 0, 1]),
        forged(spacing_mm=[0, 1, 1]),
        forged(spacing_mm="abc"),
        forged(step_size=1e-9),
        forged(step_size=None),
        forged(mirror_axes=[3]),
        forged(mirror_axes=[0, 0]),
        forged(extra=1),
    ],
)
def test_a_forged_plan_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Plan.from_json(text)
    assert caught.value.code == "plan"


def test_class_maps_and_patches_come_through_and_are_checked() -> None:
    classes = np.random.default_rng(0).integers(0, 6, size=(3, 4, 5)).astype(np.uint8)
    flat = encode_classes(classes)["CLASSES"]
    np.testing.assert_array_equal(decode_classes(flat, shape_zyx=(3, 4, 5)), classes)
    with pytest.raises(InputError, match="one byte per voxel"):
        decode_classes(flat, shape_zyx=(3, 4, 6))
    patches = np.random.default_rng(0).normal(size=(2, 8, 64, 64, 32)).astype(np.float32)
    np.testing.assert_array_equal(decode_patches(encode_patches(patches)["PATCHES"]), patches)
    assert decode_patches(encode_patches(patches[:0])["PATCHES"]).shape == (0, 8, 64, 64, 32)
    with pytest.raises(InputError):
        decode_patches(np.zeros(5, np.uint8))


def test_how_a_volume_was_segmented_is_told_and_checked() -> None:
    run = Run("fast", "nnunet_fast", 9, 4, 1)
    told = {"mode": "fast", "network": "nnunet_fast", "tiles": 9, "tiles_run": 4, "coarse_tiles": 1}
    assert decode_run(encode_run(run)["RUN"]) == told
    assert decode_run(None) is None
    for broken in (b"", b"[]", b"{}", json.dumps(told | {"tiles": -1}), json.dumps(told | {"mode": "x"})):
        with pytest.raises(InputError) as refused:
            decode_run(broken)
        assert refused.value.code == "run"


def test_only_byte_payloads_have_an_open_size() -> None:
    """A byte count that wraps past 2^64 kills the Python stub of Triton 2.51 if an open input is wider."""
    for model in (*MODELS.values(), network_model(a_spec())):
        for tensor in model.inputs:
            assert -1 not in tensor.dims or (tensor.dtype == "UINT8" and tensor.dims == (-1,))


def test_the_networks_tensors_follow_its_description() -> None:
    model = network_model(a_spec(), name="other", max_batch_size=2)
    assert (model.name, model.max_batch_size) == ("other", 2)
    assert (model.inputs[0].name, model.inputs[0].dims) == ("PATCH", (1, 16, 16, 16))
    assert (model.outputs[0].dtype, model.outputs[0].dims) == ("FP16", (2, 16, 16, 16))
