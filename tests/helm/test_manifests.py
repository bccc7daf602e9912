"""Every manifest of every preset is one that Kubernetes takes as it is, from 1.29 to the newest."""

from __future__ import annotations

from typing import Any

import pytest
from chart_support import CHART, KUBERNETES, NEWEST, PRESETS, Chart, Validator, helm

VARIANTS: dict[str, tuple[str | None, str, dict[str, Any]]] = {
    "defaults": (None, "1.29", {}),
    "baked": (None, "1.29", {"model": {"source": "baked"}}),
    "baked, no engine build": (None, "1.29", {"model": {"source": "baked"}, "engine": {"build": False}}),
    "image volume": (None, "1.33", {"model": {"source": "image", "image": {"reference": "r.example/m:1"}}}),
    "dra 1.32": (None, "1.32", {"gpu": {"mode": "dra"}}),
    "dra 1.33": (None, "1.33", {"gpu": {"mode": "dra", "dra": {"selectors": ["true"]}}}),
    "dra newest": (None, NEWEST, {"gpu": {"mode": "dra", "count": 2}}),
    "direct": (None, "1.29", {"gate": {"enabled": False}}),
    "direct, watched": (
        None,
        NEWEST,
        {"gate": {"enabled": False}, "monitoring": {"scrape": "serviceMonitor", "rules": {"enabled": True}}},
    ),
    "existing certificate": (
        "cpu",
        "1.29",
        {"tls": {"mode": "existingSecret", "secretName": "t"}, "tests": {"clientSecret": "c"}},
    ),
    "server certificate only": (
        "cpu",
        "1.29",
        {"tls": {"mode": "existingSecret", "secretName": "t", "clientAuth": False}},
    ),
    "ingress": (
        "cpu",
        "1.29",
        {
            "ingress": {"enabled": True, "host": "s.example.com", "tlsSecret": "t"},
            "apiKeys": {"existingSecret": "k"},
        },
    ),
    "hpa": (None, "1.29", {"autoscaling": {"mode": "hpa"}}),
    "service monitor": (None, "1.29", {"monitoring": {"scrape": "serviceMonitor"}}),
    "canary": (
        "production",
        NEWEST,
        {"canary": {"enabled": True, "imageTag": "2", "model": {"objectStore": {"path": ":s3:b/v2"}}}},
    ),
    "no extras": (
        None,
        "1.29",
        {
            "podDisruptionBudget": {"enabled": False},
            "networkPolicy": {"enabled": False},
            "serviceAccount": {"create": False},
            "service": {"headless": False},
            "scheduling": {"antiAffinity": "off", "zoneSpread": "off"},
        },
    ),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_pass_helms_strict_lint(preset: str) -> None:
    helm("lint", "--strict", str(CHART), "-f", str(CHART / f"values-{preset}.yaml"))


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(chart: Chart, validator: Validator, preset: str, kubernetes: str) -> None:
    manifests = chart.render(preset, kubernetes=kubernetes)
    assert {"Deployment", "Service", "NetworkPolicy"} <= {each["kind"] for each in manifests}
    assert [line for each in manifests for line in validator.problems(each, kubernetes)] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_valid(chart: Chart, validator: Validator, variant: str) -> None:
    preset, kubernetes, values = VARIANTS[variant]
    manifests = chart.render(preset, kubernetes=kubernetes, values=values)
    assert [line for each in manifests for line in validator.problems(each, kubernetes)] == []


def test_a_misspelt_field_and_an_unknown_kind_are_found(chart: Chart, validator: Validator) -> None:
    deployment = next(each for each in chart.render("cpu") if each["kind"] == "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    spec["volumes"][0]["emptyDir"]["size"] = spec["volumes"][0]["emptyDir"].pop("sizeLimit")
    assert "size" in validator.problems(deployment, NEWEST)[0]
    monitor = next(each for each in chart.render("production") if each["kind"] == "PodMonitor")
    monitor["spec"]["podMetricsEndpoints"][0]["intervall"] = "15s"
    assert "intervall" in validator.problems(monitor, NEWEST)[0]
    unknown = {"apiVersion": "x.example/v1", "kind": "Nonsense", "metadata": {"name": "n"}}
    assert validator.problems(unknown, NEWEST) == [f"Nonsense n for {NEWEST}: no schema for x.example/v1"]
