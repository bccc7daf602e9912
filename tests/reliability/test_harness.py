"""The harness itself: a wrong answer is called wrong, a lost request lost, and a delay is one."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[1] / "client" / "support"))

from fake_triton import Behaviour, FakeTriton, fails, good_answer, start
from reliability.relay import Relay
from reliability.replica import Replica
from reliability.soak import growth
from reliability.stream import Stream, fingerprint

from reliability import outcome_table
from spine_client import Volume

SHAPE = (4, 6, 5)
RIGHT = fingerprint((np.arange(120) % 251).astype(np.uint8).reshape(SHAPE))


@pytest.fixture
def volume() -> Volume:
    return Volume(np.arange(120, dtype=np.int16).reshape(SHAPE), np.eye(4))


def stream_of(volume: Volume, *behaviours: Behaviour, expected: str = RIGHT, bare: bool = True) -> Stream:
    """What a stream of one caller sees of a server that behaves so."""
    server, port = start(FakeTriton(*behaviours))
    callers = {"with_retries": 0 if bare else 1, "without_retries": 1 if bare else 0}
    stream = Stream(f"127.0.0.1:{port}", [volume], [expected], pause_s=0.01, timeout_s=20.0, **callers)
    with stream:
        deadline = time.monotonic() + 20.0
        while len(stream.records) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    server.stop(None)
    return stream


def test_a_replica_has_whole_paths_where_its_folder_is_a_relative_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server and its mounts run elsewhere."""
    monkeypatch.chdir(tmp_path)
    replica = Replica(0, Path("out"))
    assert (replica.logs, replica.words.parent) == (tmp_path / "out" / "logs-0", tmp_path / "out")


def test_right_answers_are_counted(volume: Volume) -> None:
    row = stream_of(volume, good_answer).summary()
    assert row["sent"] == row["answered"] and row["sent"] >= 4 and row["wrong"] == 0
    assert 0 < row["longest gap s"] < 20


def test_a_single_wrong_voxel_is_a_wrong_answer(volume: Volume) -> None:
    labels = (np.arange(120) % 251).astype(np.uint8).reshape(SHAPE)
    labels[0, 0, 0] += 1
    row = stream_of(volume, good_answer, expected=fingerprint(labels)).summary()
    assert row["wrong"] == row["sent"] and row["answered"] == 0


@pytest.mark.parametrize(
    ("code", "column"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed without, retryable"),
        (grpc.StatusCode.INVALID_ARGUMENT, "failed without, other"),
    ],
)
def test_failures_of_a_caller_without_retries_are_told_apart(
    volume: Volume, code: grpc.StatusCode, column: str
) -> None:
    stream = stream_of(volume, fails(code, "no"), good_answer)
    row = stream.summary()
    assert row[column] == 1 and row["failed with retries"] == 0 and row["answered"] == row["sent"] - 1
    assert sum(stream.failures().values()) == 1


def test_a_retry_that_helps_is_no_loss(volume: Volume) -> None:
    row = stream_of(volume, fails(grpc.StatusCode.UNAVAILABLE, "no"), good_answer, bare=False).summary()
    assert row["retried"] == 1 and row["failed with retries"] == 0 and row["answered"] == row["sent"]


@pytest.fixture
def echo() -> Iterator[int]:
    """A port that sends back the first thing it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(connection.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listening.getsockname()[1])
        thread.join()


def test_the_relay_delays_both_ways(echo: int) -> None:
    relay = Relay(echo)
    relay.delay_s = 0.3
    with socket.create_connection(("127.0.0.1", relay.port)) as connection:
        began = time.monotonic()
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        assert time.monotonic() - began >= 0.6
    relay.close()


def test_a_replica_that_is_gone_looks_gone_through_the_relay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    relay = Relay(port)
    with socket.create_connection(("127.0.0.1", relay.port)) as connection:
        connection.settimeout(10)
        with pytest.raises(ConnectionResetError):
            if connection.recv(1) == b"":
                raise ConnectionResetError
    relay.close()


def test_growth_compares_the_second_quarter_with_the_last() -> None:
    times = [float(t) for t in range(100)]
    assert growth(times, [100.0] * 25 + [10.0] * 25 + [50.0] * 25 + [20.0] * 25, 100.0) == (10.0, 20.0)


def test_tables_show_every_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"fault": "a|b", "sent": 3, "gap": 1.25, "none": None, "held": True}]
    outcome_table.keep(tmp_path, "t", title="T", command="make t", rows=rows, notes=["n"])
    text = (tmp_path / "t.md").read_text("utf-8")
    assert "| a\\|b | 3 | 1.2 | – | yes |" in text and "- n\n" in text
    assert (tmp_path / "t.json").exists()


def test_a_part_that_is_run_again_replaces_its_rows_and_leaves_the_others(tmp_path: Path) -> None:
    for fault, wrong in (("cut", 0), ("kill", 1), ("kill", 0)):
        notes = ["about", f"front, {fault}: {wrong} x"]
        rows = [{"fault": fault, "wrong": wrong}]
        outcome_table.keep(
            tmp_path, "t", title="T", command="make t", rows=rows, notes=notes, part_of="fault"
        )
    kept = json.loads((tmp_path / "t.json").read_text())
    assert kept["rows"] == [{"fault": "cut", "wrong": 0}, {"fault": "kill", "wrong": 0}]
    assert kept["notes"] == ["about", "front, kill: 0 x", "front, cut: 0 x"]
