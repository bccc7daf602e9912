"""A rolling update under load: both pods of a release are replaced while the SDK sends studies; none fails.

What a cluster does is done here in its order, with the rendered values:

1. A pod's Triton (the sidecar) starts and passes its startup probe, then the gate starts.
2. When the readiness probes of both pass, the pod's address goes into the headless service's name.
3. A pod that has to go waits for preStop's sleep. Its address leaves the name at the end of that, as late as
   it may; in a cluster it goes earlier.
4. The gate gets SIGTERM and drains, then Triton does, all within the grace period.

Whether the new pod comes first or the old one goes first is said by the rendered strategy. Pods have
addresses of their own, 127.0.0.2 and on, and one port, as in a cluster.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from chart_support import Chart, only
from cluster_names import ClusterNames
from local_pod import VALUES, LocalGate, LocalPod, free_port

from spine_client import Access, SpineClient, Tls
from spine_client.health import canary_volume

STEADY_SENDERS = 2
ENDPOINT_SECONDS = 5
"""For endpoints to change; the chart's least, to save time."""
CERT_MANAGER = {"tls": {"mode": "certManager", "certManager": {"issuerRef": {"name": "issuer"}}}}


@dataclass
class Member:
    """A pod that is in service."""

    pod: LocalPod
    gate: LocalGate


class Release:
    """The chart's deployment behind its headless service.

    Parameters
    ----------
    update : the chart's value of that name
    """

    def __init__(self, chart: Chart, folder: Path, names: ClusterNames, update: dict[str, int]) -> None:
        self.chart, self.folder, self.names, self.port = chart, folder, names, free_port()
        self.values: dict[str, Any] = {
            **VALUES,
            "replicaCount": 2,
            "update": update,
            "drain": {"endpointSeconds": ENDPOINT_SECONDS},
        }
        manifests = chart.render("cpu", values=self.values)
        self.deployment = only(manifests, "Deployment", "rel-spineserve")["spec"]
        self.service = only(manifests, "Service", "rel-spineserve-headless")["metadata"]["name"]
        self.pods: list[LocalPod] = []
        self._addresses = (f"127.0.0.{number}" for number in count(2))

    @property
    def url(self) -> str:
        """How integrators reach it: a name with all addresses."""
        return f"dns://127.0.0.1:{self.names.port}/{self.service}:{self.port}"

    def add(self) -> Member:
        """Start a pod, wait until it is ready, take it into service."""
        folder = self.folder / f"pod-{len(self.pods)}"
        folder.mkdir()
        pod = LocalPod(self.chart, folder, values=self.values)
        self.pods.append(pod)
        if pod is self.pods[0]:
            pod.certificates.write(pod.certificates.server, *self._names_asked_for())
        else:
            pod.share_secrets(self.pods[0])
        pod.start_triton()
        gate = pod.start_gate(host=next(self._addresses), port=self.port)
        while pod.probe("readinessProbe") != 200 or pod.gate_probe("readinessProbe", gate) != 200:
            time.sleep(0.2)
        self.names.ready.append(gate.host)
        return Member(pod, gate)

    def _names_asked_for(self) -> list[str]:
        """What the chart has cert-manager write into the certificate."""
        manifests = self.chart.render("cpu", values={**self.values, **CERT_MANAGER})
        names: list[str] = only(manifests, "Certificate")["spec"]["dnsNames"]
        return names

    def remove(self, member: Member) -> None:
        """End a pod as kubelet does."""
        began = time.monotonic()
        sleep_s = member.pod.rendered("gate")["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert sleep_s == ENDPOINT_SECONDS
        time.sleep(sleep_s)
        self.names.ready.remove(member.gate.host)
        assert member.gate.terminate(member.pod.spec()["terminationGracePeriodSeconds"]) == 0
        assert member.pod.stop() == 0, "Triton had work left when the gate had drained"
        assert time.monotonic() - began < member.pod.spec()["terminationGracePeriodSeconds"]

    def replace(self, member: Member, load: Load) -> None:
        """One step of the rendered strategy."""
        surge = self.deployment["strategy"]["rollingUpdate"]["maxSurge"]
        if surge:
            self.add()
            load.wait_for_answers(6)
        self.remove(member)
        load.wait_for_answers(6)
        if not surge:
            self.add()
            load.wait_for_answers(6)

    def stop(self) -> None:
        for pod in self.pods:
            pod.stop()


class Load:
    """Callers with certificate, key and the SDK's defaults: some keep a connection, one never does."""

    def __init__(self, release: Release) -> None:
        pod = release.pods[0]
        folder = pod.certificates.client
        self.url, self.key = release.url, (pod.keys / "current").read_text()
        self.tls = Tls(
            root_certificates=folder / "ca.crt",
            certificate=folder / "tls.crt",
            private_key=folder / "tls.key",
        )
        self.answered: list[float] = []
        self.failures: list[Exception] = []
        self._enough = threading.Event()
        senders = [self._send_over_one] * STEADY_SENDERS + [self._send_over_new_ones]
        self._threads = [threading.Thread(target=sender) for sender in senders]
        for thread in self._threads:
            thread.start()

    def _client(self) -> SpineClient:
        return SpineClient(self.url, tls=self.tls, access=Access(api_key=self.key), timeout_s=120)

    def _send_over_one(self) -> None:
        with self._client() as client:
            while not self._enough.is_set():
                self._send(client)

    def _send_over_new_ones(self) -> None:
        while not self._enough.is_set():
            with self._client() as client:
                self._send(client)

    def _send(self, client: SpineClient) -> None:
        try:
            client.analyze(canary_volume())
            self.answered.append(time.monotonic())
        except Exception as error:
            self.failures.append(error)
            self._enough.set()

    def wait_for_answers(self, wanted: int) -> None:
        """Until so many more studies have been answered."""
        began, deadline = time.monotonic(), time.monotonic() + 240
        while sum(moment > began for moment in self.answered) < wanted:
            assert self.failures == []
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(130)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterNames]:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ClusterNames() as running:
        yield running
        running.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "update",
    [{"maxSurge": 1, "maxUnavailable": 0}, {"maxSurge": 0, "maxUnavailable": 1}],
    ids=["the new pod first", "the old pod first"],
)
def test_no_study_fails_while_both_pods_are_replaced(
    chart: Chart, tmp_path: Path, names: ClusterNames, update: dict[str, int]
) -> None:
    with contextlib.ExitStack() as stack:
        release = Release(chart, tmp_path, names, update)
        stack.callback(release.stop)
        old = [release.add() for _ in range(2)]
        load = Load(release)
        stack.callback(load.stop)
        load.wait_for_answers(12)
        for member in old:
            release.replace(member, load)
        load.wait_for_answers(12)
        load.stop()
        assert load.failures == []
