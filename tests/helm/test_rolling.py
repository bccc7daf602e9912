"""A rolling update under load: each of two pods is replaced while the SDK sends studies; no study fails."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest
from chart_support import Chart
from local_pod import LocalGate, LocalPod

from spine_client import Access, SpineClient, Tls
from spine_client.health import canary_volume

SENDERS = 3
PRE_STOP_S = 1.0
"""In place of the rendered 15 s: they give endpoints time to change, but a client's fixed list never does."""


class Load:
    """Threads that send studies, with certificate and key, until told to stop."""

    def __init__(self, url: str, pod: LocalPod) -> None:
        folder = pod.certificates.client
        self.url, self.key = url, (pod.keys / "current").read_text()
        self.tls = Tls(
            root_certificates=folder / "ca.crt",
            certificate=folder / "tls.crt",
            private_key=folder / "tls.key",
        )
        self.answered: list[float] = []
        self.failures: list[Exception] = []
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        with SpineClient(self.url, tls=self.tls, access=Access(api_key=self.key), timeout_s=120) as client:
            while not self._enough.is_set():
                try:
                    client.analyze(canary_volume())
                    self.answered.append(time.monotonic())
                except Exception as error:
                    self.failures.append(error)

    def wait_for_answers(self, count: int) -> None:
        """Until so many more studies have been answered."""
        began, deadline = time.monotonic(), time.monotonic() + 240
        while sum(moment > began for moment in self.answered) < count and not self.failures:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(130)


def take_away(pod: LocalPod, gate: LocalGate) -> None:
    """What kubelet does: preStop, SIGTERM to the gate, then to its sidecar."""
    sleep = pod.rendered("gate")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep >= PRE_STOP_S
    time.sleep(PRE_STOP_S)
    assert gate.terminate(pod.spec()["terminationGracePeriodSeconds"]) == 0
    assert pod.stop() == 0, "Triton had work left when the gate had drained"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_study_fails_while_both_pods_are_replaced(
    chart: Chart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with contextlib.ExitStack() as stack:
        pods, gates = [], []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            pods.append(LocalPod(chart, tmp_path / name))
            stack.callback(pods[-1].stop)
            pods[-1].start_triton()
        pods[1].share_secrets(pods[0])
        gates = [pod.start_gate() for pod in pods]
        load = Load("ipv4:" + ",".join(f"127.0.0.1:{gate.port}" for gate in gates), pods[0])
        stack.callback(load.stop)
        for pod, gate in zip(pods, gates, strict=True):
            load.wait_for_answers(6)
            take_away(pod, gate)
            load.wait_for_answers(6)
            pod.start_triton()
            pod.start_gate(port=gate.port)
        load.wait_for_answers(12)
        load.stop()
        assert load.failures == []
