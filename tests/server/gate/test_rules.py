"""What a caller may ask for."""

from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from spine_server.gate import rules

OPEN = {"ModelInfer", "ModelReady", "ModelMetadata", "ServerLive", "ServerReady", "ServerMetadata"}
METHODS = sorted(name for name in vars(service_pb2_grpc.GRPCInferenceServiceServicer) if name[0].isupper())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_triton_is_open_or_closed_on_purpose(name: str) -> None:
    refusal = rules.method_refusal(f"/{rules.SERVICE}/{name}")
    assert (refusal is None) == (name in OPEN)


@pytest.mark.parametrize("method", ["", "/", "/x.Y/ModelInfer", f"{rules.INFER}/", rules.INFER.lower()])
def test_unknown_methods_are_closed(method: str) -> None:
    assert rules.method_refusal(method) is not None


def test_only_health_needs_no_key() -> None:
    free = {name for name in METHODS if not rules.needs_key(f"/{rules.SERVICE}/{name}")}
    assert free == {"ServerLive", "ServerReady"}
    assert not rules.needs_key("/grpc.health.v1.Health/Check")


def test_the_last_of_two_names_counts() -> None:
    names = ("spine_mri", "nnunet")
    twice = b"".join(pb.ModelInferRequest(model_name=name).SerializeToString() for name in names)
    refusal = rules.model_refusal(rules.INFER, twice, models={"spine_mri"})
    assert refusal is not None and refusal.code == "model"
    turned = b"".join(pb.ModelInferRequest(model_name=name).SerializeToString() for name in names[::-1])
    assert rules.model_refusal(rules.INFER, turned, models={"spine_mri"}) is None


def test_garbage_is_refused_before_triton_sees_it() -> None:
    refusal = rules.model_refusal(rules.INFER, b"\xff\xff\xff", models={"spine_mri"})
    assert refusal is not None and refusal.code == "malformed"
