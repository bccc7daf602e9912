"""Promises of the chart, asserted on what it renders for every preset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from chart_support import PRESETS, Chart, container, containers, only

Pod = Callable[..., dict[str, Any]]
SHAPES = {
    **{preset: (preset, {}) for preset in PRESETS},
    "direct": (None, {"gate": {"enabled": False}}),
    "dra": (None, {"gpu": {"mode": "dra"}}),
    "long studies": (
        None,
        {"gate": {"enabled": False}, "drain": {"longestStudySeconds": 900, "endpointSeconds": 40}},
    ),
}
EVERY = pytest.mark.parametrize("shape", SHAPES)


@pytest.fixture
def pod(shape: str, pod_of: Pod) -> dict[str, Any]:
    preset, values = SHAPES[shape]
    return pod_of(preset, values=values)


def flag(each: dict[str, Any], name: str) -> str:
    """Value of one ``--name=value`` argument."""
    found = [arg.partition("=")[2] for arg in each["args"] if arg.startswith(f"--{name}=")]
    assert len(found) == 1, f"{name}: {found}"
    return str(found[0])


def mebibytes(quantity: str) -> int:
    return (
        int(quantity.removesuffix("Mi"))
        if quantity.endswith("Mi")
        else int(quantity.removesuffix("Gi")) * 1024
    )


@EVERY
def test_the_grace_period_outlasts_the_drain(pod: dict[str, Any]) -> None:
    """Leaving the endpoints, the longest study and Triton's own end all fit before SIGKILL."""
    last = pod["containers"][0]
    sleep = last["lifecycle"]["preStop"]["sleep"]["seconds"]
    drains = [int(flag(each, name)) for each in containers(pod) for name in drain_flags(each)]
    assert pod["terminationGracePeriodSeconds"] >= sleep + sum(drains) + 10


def drain_flags(each: dict[str, Any]) -> list[str]:
    return {"triton": ["stop-timeout"], "gate": ["drain"]}.get(each["name"], [])


def test_before_1_30_a_program_sleeps(pod_of: Pod) -> None:
    """The field exists in 1.29 only behind a feature gate: set there, it would be dropped silently."""
    lifecycle = pod_of(None, kubernetes="1.29")["containers"][0]["lifecycle"]
    assert lifecycle == {"preStop": {"exec": {"command": ["sleep", "15"]}}}


@EVERY
def test_triton_outlives_the_gate(pod: dict[str, Any], shape: str) -> None:
    """As a sidecar Triton is started before the gate and told to stop only once the gate has drained."""
    triton = container(pod, "triton")
    if shape in ("direct", "long studies"):
        assert triton in pod["containers"] and "restartPolicy" not in triton
    else:
        assert triton is pod["initContainers"][-1] and triton["restartPolicy"] == "Always"
        assert [each["name"] for each in pod["containers"]] == ["gate"]


@EVERY
def test_shared_memory_is_sized_and_counted(pod: dict[str, Any]) -> None:
    shm = next(volume for volume in pod["volumes"] if volume["name"] == "shm")["emptyDir"]
    triton = container(pod, "triton")
    assert shm["medium"] == "Memory"
    limit = mebibytes(triton["resources"]["limits"]["memory"])
    assert limit >= mebibytes(shm["sizeLimit"]) + 1024
    assert {"name": "shm", "mountPath": "/dev/shm"} in triton["volumeMounts"]


@EVERY
def test_pod_security_restricted(pod: dict[str, Any]) -> None:
    """The rules of the Pod Security Standard `restricted`, and a read-only root besides."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for each in containers(pod):
        context = each["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["runAsUser"] == 1000 and "privileged" not in context
    kinds = {key for volume in pod["volumes"] for key in volume if key != "name"}
    assert kinds <= {"emptyDir", "persistentVolumeClaim", "secret", "configMap"}


@EVERY
def test_no_token_and_limits_everywhere(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    for each in containers(pod):
        assert {"cpu", "memory"} <= each["resources"]["requests"].keys()
        assert "memory" in each["resources"]["limits"]


@EVERY
def test_no_secret_in_arguments_or_environment(pod: dict[str, Any]) -> None:
    """Keys and certificates come as files; what opens model control is a socket of the supervisor alone."""
    for each in containers(pod):
        words = " ".join([*each.get("command", ()), *each.get("args", ())])
        assert "api-key=" not in words
        for variable in each.get("env", ()):
            assert "secretKeyRef" not in str(variable)
    shared = [{mount["name"] for mount in each["volumeMounts"]} for each in containers(pod)[-2:]]
    if containers(pod)[-1]["name"] == "gate":
        assert shared[0] & shared[1] == set(), "the gate could reach Triton's /tmp"


@EVERY
def test_triton_is_closed_by_default(pod: dict[str, Any], shape: str) -> None:
    """Model control, HTTP and log format are the supervisor's, and nothing after ``--`` takes them back."""
    triton = container(pod, "triton")
    handed_on = triton["args"][triton["args"].index("--") + 1 :]
    assert handed_on and all(word.startswith("--") for word in handed_on)
    ours = ("--model-control", "--allow-http", "--http", "--grpc-restricted", "--log-format", "--load-model")
    assert not [word for word in handed_on if word.startswith(ours)]
    open_to_all = shape in ("direct", "long studies")
    assert flag(triton, "host") == ("0.0.0.0" if open_to_all else "127.0.0.1")


@EVERY
def test_probes_ask_the_supervisor(pod: dict[str, Any]) -> None:
    """It knows what its canaries say; start-up outlasts its own patience, which ends with a reason."""
    triton = container(pod, "triton")
    assert triton["command"] == ["spine-server"]
    ports = {port["name"]: port["containerPort"] for port in triton["ports"]}
    for name, path in (("startupProbe", "/ready"), ("readinessProbe", "/ready"), ("livenessProbe", "/live")):
        assert triton[name]["httpGet"] == {"path": path, "port": "status"}
    assert str(ports["status"]) == flag(triton, "status-port")
    startup = triton["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > int(flag(triton, "start-timeout")) >= 600
    assert flag(triton, "monitor-host") == "0.0.0.0"


@EVERY
def test_profile_and_gpu(pod: dict[str, Any], shape: str) -> None:
    triton = container(pod, "triton")
    limits = triton["resources"]["limits"]
    gpus = {key: value for key, value in limits.items() if key.startswith("nvidia.com/")}
    expected = {"cpu": {}, "mig": {"nvidia.com/mig-1g.18gb": 1}, "dra": {}}
    assert gpus == expected.get(shape, {"nvidia.com/gpu": 1})
    assert flag(triton, "profile") == ("cpu" if shape == "cpu" else "gpu")
    if shape == "dra":
        assert triton["resources"]["claims"] == [{"name": "gpu"}]


@EVERY
def test_engines_are_built_on_the_pods_own_gpu(pod: dict[str, Any], shape: str) -> None:
    names = [each["name"] for each in containers(pod)]
    if shape == "cpu":
        assert "engine" not in names
        return
    engine, triton = container(pod, "engine"), container(pod, "triton")
    assert names.index("engine") < names.index("triton")
    assert engine["command"][2:] == ["spine-export", "engine"]
    assert flag(engine, "repository") == flag(triton, "repository") == "/models"
    assert engine["terminationMessagePolicy"] == "FallbackToLogsOnError"
    on_gpu = {key for key in triton["resources"]["limits"] if key.startswith("nvidia.com/")}
    assert on_gpu <= engine["resources"]["limits"].keys()
    assert engine["resources"].get("claims") == triton["resources"].get("claims")


@EVERY
def test_every_mount_has_its_volume(pod: dict[str, Any]) -> None:
    volumes = {volume["name"] for volume in pod["volumes"]}
    used = {mount["name"] for each in containers(pod) for mount in each["volumeMounts"]}
    assert used == volumes


@pytest.mark.parametrize("preset", PRESETS)
def test_selectors_match(chart: Chart, preset: str) -> None:
    """Everything that selects pods selects the server's, and nothing selects the test pods."""
    manifests = chart.render(preset, values={"canary": {"enabled": True}})
    templates = [each["spec"]["template"] for each in manifests if each["kind"] == "Deployment"]
    labels = [template["metadata"]["labels"] for template in templates]
    tests = [each["metadata"]["labels"] for each in manifests if each["kind"] == "Pod"]
    for each in manifests:
        selector = each["spec"].get("selector") or each["spec"].get("podSelector") if "spec" in each else None
        if selector is None:
            continue
        wanted = selector.get("matchLabels", selector).items()
        if each["kind"] == "ServiceMonitor":
            continue
        assert any(wanted <= have.items() for have in labels), each["kind"]
        assert not any(wanted <= have.items() for have in tests), each["kind"]
    pods = [template["spec"] for template in templates]
    ports = [port for pod in pods for each in containers(pod) for port in each.get("ports", ())]
    names = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
    for service in (each for each in manifests if each["kind"] == "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


@pytest.mark.parametrize("preset", PRESETS)
def test_drains_are_allowed(chart: Chart, preset: str) -> None:
    budget = only(chart.render(preset), "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] >= 1 and "minAvailable" not in budget


def test_network_policy_lets_in_calls_and_scrapes_only(chart: Chart) -> None:
    policy = only(chart.render("cpu"), "NetworkPolicy")["spec"]
    assert policy["egress"] == []
    assert [[port["port"] for port in rule["ports"]] for rule in policy["ingress"]] == [
        [8001],
        [8002, 8004, 8003],
    ]
    assert all(rule["from"] for rule in policy["ingress"])


def test_network_policy_lets_out_what_delivery_and_tracing_need(chart: Chart) -> None:
    policy = only(chart.render("production"), "NetworkPolicy")["spec"]
    assert [sorted({port["port"] for port in rule["ports"]}) for rule in policy["egress"]] == [
        [53],
        [443],
        [4318],
    ]


def test_the_route_offers_inference_and_health_only(chart: Chart) -> None:
    rules = only(chart.render("production"), "GRPCRoute")["spec"]["rules"]
    methods = [match["method"] for rule in rules for match in rule["matches"]]
    assert {method["type"] for method in methods} == {"Exact"}
    assert not [
        method for method in methods if "Repository" in method["method"] or "Memory" in method["method"]
    ]
    assert {method["service"] for method in methods} == {"inference.GRPCInferenceService"}


def test_the_gate_opens_the_entry_model_only(pod_of: Pod) -> None:
    gate = container(pod_of("production"), "gate")
    assert flag(gate, "model") == "spine_mri"
    assert flag(gate, "triton") == "127.0.0.1:8101"
    assert flag(gate, "tls-client-ca") and flag(gate, "api-keys")


def test_a_canary_takes_its_share_of_the_route(chart: Chart) -> None:
    values = {"canary": {"enabled": True, "weight": 7, "model": {"objectStore": {"path": ":s3:b/v2"}}}}
    manifests = chart.render("production", values=values)
    backends = only(manifests, "GRPCRoute")["spec"]["rules"][0]["backendRefs"]
    assert {each["name"]: each["weight"] for each in backends} == {
        "rel-spineserve-stable": 93,
        "rel-spineserve-canary": 7,
    }
    for track, path in (("stable", ":s3:example-models/spineserve/v1"), ("canary", ":s3:b/v2")):
        service = only(manifests, "Service", f"rel-spineserve-{track}")
        assert service["spec"]["selector"]["spineserve.io/track"] == track
        name = "rel-spineserve" + ("" if track == "stable" else "-canary")
        pod = only(manifests, "Deployment", name)["spec"]["template"]["spec"]
        assert path in container(pod, "download")["args"]


def test_scaling_asks_the_leaf_models_and_survives_without_metrics(chart: Chart) -> None:
    manifests = chart.render("production")
    spec = only(manifests, "ScaledObject")["spec"]
    queries = {trigger["name"]: trigger["metadata"]["query"] for trigger in spec["triggers"]}
    assert 'model!~"spine_mri|segmentation"' in queries["queue"]
    assert all(trigger["metadata"]["ignoreNullValues"] == "false" for trigger in spec["triggers"])
    assert spec["fallback"]["replicas"] >= spec["minReplicaCount"]
    window = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert window["stabilizationWindowSeconds"] > 120
    assert "replicas" not in only(manifests, "Deployment")["spec"]


def test_hpa_and_keda_ask_the_same(chart: Chart) -> None:
    hpa = only(chart.render(None, values={"autoscaling": {"mode": "hpa"}}), "HorizontalPodAutoscaler")["spec"]
    targets = {
        metric["external"]["metric"]["name"]: metric["external"]["target"] for metric in hpa["metrics"]
    }
    assert targets == {
        "spineserve_inflight_studies": {"type": "AverageValue", "averageValue": "2"},
        "spineserve_queue_length": {"type": "AverageValue", "averageValue": "4"},
    }
    assert hpa["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 600


@pytest.mark.parametrize("preset", PRESETS)
def test_test_pods_are_as_strict_as_the_server(chart: Chart, preset: str) -> None:
    pods = [each for each in chart.render(preset) if each["kind"] == "Pod"]
    assert len(pods) == 2
    for each in pods:
        spec = each["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
        assert each["metadata"]["labels"]["rel-spineserve-client"] == "true"
