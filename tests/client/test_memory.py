"""How much is held while many sources are worked on."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from fake_triton import fails, good_answer

from spine_client import AsyncSpineClient, SpineClient, Volume

AT_A_TIME = 2


class Counted:
    """Makes volumes one by one, and knows the most that were there at the same time."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.most = 0
        self._alive: weakref.WeakSet[Volume] = weakref.WeakSet()

    def __iter__(self) -> Iterator[Volume]:
        for number in range(self.count):
            volume = Volume(np.arange(120, dtype=np.int16).reshape(4, 6, 5) + number, np.eye(4))
            self._alive.add(volume)
            self.most = max(self.most, len(self._alive))
            yield volume
            del volume


REFUSE = fails(grpc.StatusCode.INVALID_ARGUMENT, "[spineserve:too_small] Too small.")


@pytest.fixture(params=[good_answer, REFUSE], ids=["results", "errors"])
def many(serve, request) -> tuple[SpineClient, str, bool]:
    servicer, client = serve(request.param)
    return client, servicer.url, request.param is good_answer


@pytest.fixture(autouse=True)
def counting_only() -> Iterator[None]:
    """What is dropped must go at once, not at some collection of cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_no_more_volumes_are_held_than_promised(many) -> None:
    client, _, ok = many
    sources = Counted(30)
    errors = []
    for outcome in client.analyze_many(sources, max_concurrency=AT_A_TIME):
        assert outcome.ok == ok
        errors.append(outcome.error)
        del outcome
    assert len(errors) == 30
    assert sources.most <= 2 * AT_A_TIME + 1  # and the one that the loop has in hand


def test_async_holds_no_more_either(many) -> None:
    _, url, ok = many
    sources = Counted(30)
    errors = []

    async def main() -> None:
        async with AsyncSpineClient(url) as client:
            async for outcome in client.analyze_many(sources, max_concurrency=AT_A_TIME):
                assert outcome.ok == ok
                errors.append(outcome.error)
                del outcome

    asyncio.run(main())
    assert len(errors) == 30
    assert sources.most <= 2 * AT_A_TIME + 1


@pytest.mark.parametrize("count", [0, -1])
def test_nothing_at_a_time_is_refused(serve, count: int) -> None:
    _, client = serve()
    with pytest.raises(ValueError, match="at least 1"):
        client.analyze_many([], max_concurrency=count)
