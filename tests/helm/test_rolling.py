"""A whole pod goes, as in a rolling update, while the SDK sends studies to two: no study fails."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest
from chart_support import Chart
from local_pod import KEY, LocalPod

from spine_client import Access, SpineClient
from spine_client.health import canary_volume

SENDERS = 3


class Load:
    """Threads that send studies until told to stop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answered: list[float] = []
        self.failures: list[Exception] = []
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        access = Access(api_key=KEY, allow_plaintext=True)
        with SpineClient(self.url, access=access, timeout_s=120) as client:
            while not self._enough.is_set():
                try:
                    client.analyze(canary_volume())
                    self.answered.append(time.monotonic())
                except Exception as error:
                    self.failures.append(error)

    def wait_for_answers(self, count: int, *, after: float = 0.0) -> None:
        deadline = time.monotonic() + 120
        while sum(moment > after for moment in self.answered) < count and not self.failures:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(120)


@pytest.mark.slow
def test_no_study_fails_while_one_of_two_pods_is_taken_away(
    chart: Chart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with contextlib.ExitStack() as stack:
        pods = []
        for name in ("going", "staying"):
            (tmp_path / name).mkdir()
            pods.append(LocalPod(chart, tmp_path / name))
            stack.callback(pods[-1].stop)
            pods[-1].start_triton()
        gates = [pod.start_gate(plain=True) for pod in pods]
        load = Load("ipv4:" + ",".join(f"127.0.0.1:{gate.port}" for gate in gates))
        stack.callback(load.stop)
        load.wait_for_answers(6)
        time.sleep(1.0)  # the rendered preStop.sleep, shortened: endpoints of a client-side list never change
        assert gates[0].terminate(120) == 0
        assert pods[0].stop() == 0, "Triton had work left when the gate had drained"
        load.wait_for_answers(6, after=time.monotonic())
        load.stop()
        assert load.failures == []
