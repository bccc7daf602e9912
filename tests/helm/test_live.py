"""The CPU preset's rendered commands, really run: Triton, gate, probes, drain, keys, metrics.

One Triton for the whole file; the tests that break it come last.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from chart_support import CHART, Chart
from local_pod import KEY, START_PATIENCE_S, LocalGate, LocalPod
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from spine_client import Access, AccessRefused, ServerUnavailable, SpineClient, Tls, Volume
from spine_client.config import RetryPolicy
from spine_client.health import canary_volume
from spine_server.repository import default_repository
from spinecore.phantom import Phantom

LIVE_NAMES = Path(__file__).parent / "data" / "live_metric_names.txt"
NO_RETRY = RetryPolicy(max_attempts=1)


@pytest.fixture(scope="module", autouse=True)
def no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def pod(chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPod]:
    """A pod of the CPU preset, started by its own startup probe."""
    running = LocalPod(chart, tmp_path_factory.mktemp("pod"))
    try:
        running.start_triton()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def gate(pod: LocalPod) -> LocalGate:
    """Its gate, with mutual TLS and keys."""
    return pod.start_gate()


@pytest.fixture
def connect(pod: LocalPod, gate: LocalGate) -> Iterator[Callable[..., SpineClient]]:
    """Makes SDK clients; by default with all that is asked for."""
    opened: list[SpineClient] = []

    def client(
        *, key: str | None = KEY, certificate: bool = True, retry: RetryPolicy = NO_RETRY
    ) -> SpineClient:
        folder = pod.certificates.client
        pair = {"certificate": folder / "tls.crt", "private_key": folder / "tls.key"} if certificate else {}
        tls = Tls(root_certificates=folder / "ca.crt", **pair)
        access = Access(api_key=key) if key else None
        opened.append(
            SpineClient(f"localhost:{gate.port}", tls=tls, access=access, timeout_s=60, retry=retry)
        )
        return opened[-1]

    yield client
    for each in opened:
        each.close()


@pytest.fixture
def plain(pod: LocalPod) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """A raw gRPC stub at a gate that asks for a key alone, for what the SDK never sends."""
    gate = pod.start_gate(plain=True)
    with grpc.insecure_channel(f"127.0.0.1:{gate.port}") as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)
    gate.terminate(20)


WITH_KEY = (("triton-grpc-protocol-api-key", KEY),)


def refused(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def test_probes_pass_on_a_healthy_pod(pod: LocalPod, gate: LocalGate) -> None:
    for _ in range(2):
        for name in ("readinessProbe", "livenessProbe"):
            assert pod.probe(name) == 200
    assert status(gate.status_port, "/ready") == status(gate.status_port, "/live") == 200
    assert status(gate.status_port, "/other") == 404


@pytest.mark.parametrize("check", ["health", "phantom"])
def test_the_helm_test_pods_script_passes(pod: LocalPod, gate: LocalGate, check: str) -> None:
    """With client certificate and key, as the test pods are given them."""
    if (
        check == "phantom"
        and "random weights" in (default_repository() / "nnunet/1/network.json").read_text()
    ):
        pytest.skip("the repository's network is not trained: it finds no spine")
    environment = {
        **os.environ,
        "SPINESERVE_URL": f"localhost:{gate.port}",
        "SPINESERVE_TLS": str(pod.certificates.client),
        "SPINESERVE_KEYS": str(pod.keys),
    }
    command = [sys.executable, str(CHART / "files" / "helm_test.py"), check]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert ("healthy" if check == "health" else "discs") in done.stdout


@pytest.mark.parametrize("key", [None, "another-key-0123456789"])
def test_without_a_valid_key_nothing_is_answered(
    connect: Callable[..., SpineClient], key: str | None
) -> None:
    with pytest.raises(AccessRefused):
        connect(key=key).analyze(canary_volume())


def test_without_a_client_certificate_there_is_no_connection(connect: Callable[..., SpineClient]) -> None:
    with pytest.raises(ServerUnavailable):
        connect(certificate=False).analyze(canary_volume())


def test_bad_input_is_still_told_by_its_code(plain: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    """The gate passes the stages' own refusals on untouched."""
    request = pb.ModelInferRequest(model_name="spine_mri")
    inputs = {"VOLUME": ("UINT8", 1, 1), "SHAPE": ("INT64", 4, 8), "DTYPE": ("BYTES", 1, 4)}
    for name, (datatype, count, size) in {**inputs, "AFFINE": ("FP64", 16, 8)}.items():
        request.inputs.add(name=name, datatype=datatype, shape=[count])
        request.raw_input_contents.append(bytes(count * size))
    code, details = refused(lambda: plain.ModelInfer(request, metadata=WITH_KEY))
    assert code == "INVALID_ARGUMENT" and "[spineserve:shape]" in details


@pytest.mark.parametrize(
    "model", ["nnunet", "preprocess", "segment", "identify", "report", "measure_cnn", "attendant", ""]
)
def test_inner_models_are_no_api(plain: service_pb2_grpc.GRPCInferenceServiceStub, model: str) -> None:
    for call in (
        lambda: plain.ModelInfer(pb.ModelInferRequest(model_name=model), metadata=WITH_KEY),
        lambda: plain.ModelMetadata(pb.ModelMetadataRequest(name=model), metadata=WITH_KEY),
        lambda: plain.ModelReady(pb.ModelReadyRequest(name=model), metadata=WITH_KEY),
    ):
        assert refused(call) == ("PERMISSION_DENIED", "Only these models are open to callers: spine_mri.")


def test_a_name_sent_twice_does_not_slip_through(pod: LocalPod) -> None:
    """Protobuf takes the last of two: the gate and Triton must see the same."""
    gate = pod.start_gate(plain=True)
    twice = b"".join(
        pb.ModelInferRequest(model_name=name).SerializeToString() for name in ("spine_mri", "nnunet")
    )
    with grpc.insecure_channel(f"127.0.0.1:{gate.port}") as channel:
        raw = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", bytes, bytes)
        assert refused(lambda: raw(twice, metadata=WITH_KEY))[0] == "PERMISSION_DENIED"
        assert refused(lambda: raw(b"\xff\xff", metadata=WITH_KEY))[0] == "INVALID_ARGUMENT"
    gate.terminate(20)


def test_everything_but_inference_and_health_is_closed(
    plain: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    closed = {
        "RepositoryModelUnload": pb.RepositoryModelUnloadRequest(model_name="spine_mri"),
        "RepositoryIndex": pb.RepositoryIndexRequest(),
        "SystemSharedMemoryRegister": pb.SystemSharedMemoryRegisterRequest(name="x", key="/x"),
        "SystemSharedMemoryStatus": pb.SystemSharedMemoryStatusRequest(),
        "TraceSetting": pb.TraceSettingRequest(),
        "LogSettings": pb.LogSettingsRequest(),
        "ModelStatistics": pb.ModelStatisticsRequest(),
        "ModelConfig": pb.ModelConfigRequest(name="spine_mri"),
    }
    for method, request in closed.items():
        answer = refused(lambda m=method, r=request: getattr(plain, m)(r, metadata=WITH_KEY))
        assert answer == ("PERMISSION_DENIED", "This method is not open to callers."), method


def test_health_needs_no_key_and_metadata_does(plain: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    assert plain.ServerReady(pb.ServerReadyRequest()).ready
    assert refused(lambda: plain.ServerMetadata(pb.ServerMetadataRequest()))[0] == "UNAUTHENTICATED"
    assert plain.ServerMetadata(pb.ServerMetadataRequest(), metadata=WITH_KEY).name == "triton"


def test_triton_itself_is_closed_inside_the_pod_too(pod: LocalPod) -> None:
    """Models are loaded over a socket in the supervisor's own folder; its gRPC key is told to nobody."""
    with grpc.insecure_channel(f"127.0.0.1:{pod.port}") as channel:
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        code, details = refused(
            lambda: triton.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="x"))
        )
    assert "restricted" in details, code
    (socket,) = (pod.folder / "tmp").glob("*/control*")
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


def test_limits_refuse_what_is_too_large_and_too_much(pod: LocalPod) -> None:
    gate = pod.start_gate(plain=True, maxRequestMiB=1, maxConcurrentRequests=1)
    with grpc.insecure_channel(f"127.0.0.1:{gate.port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        large = pb.ModelInferRequest(model_name="spine_mri", raw_input_contents=[bytes(2**21)])
        assert refused(lambda: stub.ModelInfer(large, metadata=WITH_KEY))[0] == "RESOURCE_EXHAUSTED"
    access = Access(api_key=KEY, allow_plaintext=True)
    with SpineClient(f"127.0.0.1:{gate.port}", access=access, timeout_s=60, retry=NO_RETRY) as client:
        first = threading.Thread(target=lambda: client.analyze(canary_volume()))
        first.start()
        _wait(lambda: "spineserve_gate_inflight_requests 1.0" in metrics(gate.status_port))
        with pytest.raises(ServerUnavailable, match="under way"):
            client.analyze(canary_volume())
        first.join(60)
    assert gate.terminate(20) == 0


def test_keys_and_certificates_are_rotated_without_a_restart(
    pod: LocalPod, connect: Callable[..., SpineClient]
) -> None:
    """Two keys are valid at once, a removed one is not; a renewed certificate is taken up too."""
    successor = "the-next-key-0123456789"
    (pod.keys / "next").write_text(successor)
    pod.certificates.write(pod.certificates.server, "localhost", "127.0.0.1")
    time.sleep(2.2)
    for key in (KEY, successor):
        assert connect(key=key).health().ok
        connect(key=key).analyze(canary_volume())
    (pod.keys / "current").unlink()
    time.sleep(2.2)
    with pytest.raises(AccessRefused):
        connect().analyze(canary_volume())
    (pod.keys / "current").write_text(KEY)
    (pod.keys / "next").unlink()
    time.sleep(2.2)
    connect().analyze(canary_volume())


def test_no_key_is_in_any_process_list(pod: LocalPod, gate: LocalGate) -> None:
    assert pod.server is not None
    for pid in (pod.server.pid, gate.process.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert KEY.encode() not in words


def test_metric_names_are_those_that_rules_and_dashboard_know(
    pod: LocalPod, gate: LocalGate, connect: Callable[..., SpineClient], lumbar_phantom: Phantom
) -> None:
    """The committed list, by which the offline tests judge, is what is really scraped after a first study."""
    with pytest.raises(AccessRefused):
        connect(key=None).analyze(canary_volume())
    connect().analyze(Volume(lumbar_phantom.image, lumbar_phantom.affine))
    scraped = set()
    for port in (pod.metrics_port, gate.status_port, pod.status_port):
        scraped |= set(re.findall(r"^([a-z_]+?)(?:\{| )", metrics(port), re.M))
    expected = set(LIVE_NAMES.read_text().split())
    assert expected <= scraped, expected - scraped


def test_a_pod_is_drained_under_load_without_a_failed_study(pod: LocalPod) -> None:
    """Two gates behind the SDK's round robin; one gets the rendered preStop and SIGTERM while studies run."""
    going, staying = pod.start_gate(plain=True), pod.start_gate(plain=True)
    url = f"ipv4:127.0.0.1:{going.port},127.0.0.1:{staying.port}"
    enough, failures, answered = threading.Event(), list[BaseException](), list[float]()

    def send() -> None:
        with SpineClient(url, access=Access(api_key=KEY, allow_plaintext=True), timeout_s=60) as client:
            while not enough.is_set():
                try:
                    client.analyze(canary_volume())
                    answered.append(time.monotonic())
                except Exception as error:
                    failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    _wait(lambda: len(answered) + len(failures) >= 3)
    assert pod.rendered("gate")["lifecycle"]["preStop"]["sleep"]["seconds"] == 15  # shortened to 0.5 s here
    time.sleep(0.5)
    stopped = time.monotonic()
    assert going.terminate(60) == 0
    assert status(staying.status_port, "/ready") == 200
    _wait(lambda: len([moment for moment in answered if moment > stopped]) + len(failures) >= 4)
    enough.set()
    for thread in threads:
        thread.join(60)
    assert failures == [] and len(answered) >= 7
    assert staying.terminate(20) == 0


def _wait(done: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(START_PATIENCE_S + 120)
@pytest.mark.parametrize(
    ("model", "number"),
    [("segment", signal.SIGKILL), ("report", signal.SIGSTOP)],
    ids=["a stage killed", "a stage stopped"],
)
def test_a_dead_stage_fails_readiness_until_it_is_back(
    pod: LocalPod, gate: LocalGate, connect: Callable[..., SpineClient], model: str, number: signal.Signals
) -> None:
    """Before, during and after: liveness passes all the time, for the supervisor does its work."""
    connect().analyze(canary_volume())
    assert pod.probe("readinessProbe") == pod.probe("livenessProbe") == 200
    before = recoveries(pod)
    os.kill(pod.stubs(model)[0], number)
    _wait(lambda: pod.probe("readinessProbe") == 503)
    assert pod.probe("livenessProbe") == 200
    # On a machine so busy that a stage does not load in the time of a start, all of Triton is started again.
    _wait(lambda: pod.probe("readinessProbe") == status(gate.status_port, "/ready") == 200, START_PATIENCE_S)
    assert pod.probe("livenessProbe") == 200
    assert recoveries(pod) > before
    connect(retry=RetryPolicy()).analyze(canary_volume())


def recoveries(pod: LocalPod) -> float:
    """Models loaded anew and Tritons restarted, as the supervisor counts them."""
    counted = re.findall(r"^spineserve_supervisor_re\w+_total\S* (\S+)$", metrics(pod.status_port), re.M)
    return sum(map(float, counted))


@pytest.mark.timeout(START_PATIENCE_S + 120)
def test_a_supervisor_that_is_stuck_fails_liveness_and_a_new_container_starts_clean(
    pod: LocalPod, gate: LocalGate, connect: Callable[..., SpineClient]
) -> None:
    """Kubelet then kills the container, whose shared memory stays behind in the pod's volume."""
    assert pod.server is not None and pod.regions()
    os.kill(pod.server.pid, signal.SIGSTOP)
    assert pod.probe("livenessProbe") == 0
    pod.kill_container()
    assert status(gate.status_port, "/ready") == 503
    left = pod.regions()
    assert left, "a killed Triton leaves its shared memory behind"
    pod.start_triton()
    assert not [region for region in left if region.exists()]
    assert pod.probe("livenessProbe") == 200
    _wait(lambda: status(gate.status_port, "/ready") == 200, 10)
    connect(retry=RetryPolicy()).analyze(canary_volume())


def test_triton_ends_in_order_and_in_time(pod: LocalPod, gate: LocalGate) -> None:
    """The order of kubelet: the gate first, then its sidecar, within the rendered time."""
    assert pod.regions()
    assert gate.terminate(20) == 0
    assert pod.stop() == 0
    assert pod.regions() == []
