"""Health: asking, and trying."""

from __future__ import annotations

import grpc
from fake_triton import FakeTriton, fails, start

from spine_client import RetryPolicy, SpineClient


def test_ready_server(serve) -> None:
    servicer, client = serve()
    health = client.health()
    assert health.ok
    assert health.server_version == "2.51.0"
    assert health.canary_s is None
    assert servicer.requests == []


def test_deep_check_sends_a_volume(serve) -> None:
    servicer, client = serve()
    health = client.health(deep=True)
    assert health.ok
    assert health.canary_s is not None
    assert len(servicer.requests) == 1
    assert health.supervisor is not None
    assert (health.supervisor["restarts"], health.supervisor["reloads"]) == (1, {"segment": 2})


def test_dead_stage_shows_in_the_deep_check_only(serve) -> None:
    _, client = serve(fails(grpc.StatusCode.INTERNAL, "Stub process 'segment_0_0' is not healthy."))
    patient = client.with_options(retry=RetryPolicy(max_attempts=1))
    assert patient.health().ok
    deep = patient.health(deep=True)
    assert not deep.ok
    assert deep.ready
    assert "has died" in str(deep.problem)


def test_model_that_is_not_ready(serve) -> None:
    servicer, client = serve()
    servicer.model_ready = False
    health = client.health(deep=True)
    assert not health.ok
    assert servicer.requests == []


def test_no_server_is_no_exception() -> None:
    server, port = start(FakeTriton())
    server.stop(None).wait()
    with SpineClient(f"127.0.0.1:{port}") as client:
        health = client.health()
    assert (health.ok, health.live) == (False, False)
    assert health.to_dict()["problem"]
