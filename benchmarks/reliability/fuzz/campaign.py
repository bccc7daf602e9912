"""What is sent, and how it is judged: structured requests by hypothesis, bytes, connections."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from hypothesis import HealthCheck, Phase, given, seed, settings
from tritonclient.grpc import service_pb2 as pb

from reliability.fuzz import wire
from reliability.fuzz.answers import complaint
from reliability.fuzz.spoil import spoilt
from reliability.fuzz.watch import Watch

ANSWER_S = 60.0
Metadata = tuple[tuple[str, str], ...]


def structured(
    stub: Any,
    good: Mapping[str, pb.ModelInferRequest],
    watch: Watch,
    *,
    count: int,
    number: int,
    metadata: Metadata = (),
) -> None:
    """Send `count` spoilt requests to the models of `good`; `number` seeds the choice."""

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(spoilt(dict(good)))
    def send(example: tuple[pb.ModelInferRequest, str]) -> None:
        message, what = example
        _judge(
            lambda: stub.ModelInfer(message, timeout=ANSWER_S, metadata=metadata),
            what,
            str(message)[:20_000],
            watch,
        )

    send()


def byte_level(
    channel: Any,
    good: Mapping[str, pb.ModelInferRequest],
    watch: Watch,
    *,
    count: int,
    number: int,
    metadata: Metadata = (),
) -> None:
    """Send `count` messages that are no or hardly protobufs to all methods, most of them to ModelInfer."""
    dice = random.Random(number)
    whole = {model: message.SerializeToString()[:20_000] for model, message in good.items()}
    for _ in range(count):
        method = "ModelInfer" if dice.random() < 0.6 else dice.choice(wire.METHODS)
        model = dice.choice(sorted(whole))
        body = wire.mutated(whole[model], dice) if dice.random() < 0.8 else wire.random_message(dice)
        streaming = method == "ModelStreamInfer"
        make = channel.stream_stream if streaming else channel.unary_unary
        call = make(f"/{wire.SERVICE}/{method}", bytes, bytes)
        what = f"{method} with damaged bytes of {model}"
        _judge(
            lambda c=call, b=body, s=streaming: _send(c, b, s, metadata), what, body.decode("latin-1"), watch
        )


def connections(
    address: tuple[str, int], connect: wire.Connect, good: bytes, watch: Watch, *, number: int
) -> None:
    """Half-closed streams, lying lengths, resets, cuts, slow senders, other protocols."""
    dice = random.Random(number)
    steps: dict[str, Callable[[], object]] = {
        "half-closed streams": lambda: wire.half_closed(connect, good),
        "lying lengths": lambda: wire.lying_lengths(connect, good),
        "reset streams": lambda: wire.reset_streams(connect, good),
        "cut connections": lambda: wire.cut_connections(connect, good),
        "slow sender": lambda: wire.slow_sender(connect, good, seconds=5.0),
        "no HTTP/2": lambda: wire.no_http2(address, dice),
    }
    for name, step in steps.items():
        step()
        watch.deaths(name)


def _send(call: Any, body: bytes, streaming: bool, metadata: Metadata) -> None:
    if not streaming:
        call(body, timeout=ANSWER_S, metadata=metadata)
        return
    for _ in call(iter([body]), timeout=ANSWER_S, metadata=metadata):
        pass


def _judge(send: Callable[[], object], what: str, sent: str, watch: Watch) -> None:
    try:
        send()
        watch.answered += 1
    except grpc.RpcError as error:
        name = error.code().name
        watch.refused[name] = watch.refused.get(name, 0) + 1
        if (problem := complaint(error, sent=sent)) is not None:
            watch.note(f"{what}: {problem}")
    watch.deaths(what)
