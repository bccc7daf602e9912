"""Wrong values are refused with a sentence that helps; right ones are documented."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from chart_support import CHART, PRESETS, Chart, RenderError, chart_script

REFUSED: dict[str, tuple[str | None, dict[str, Any], str]] = {
    "unknown key": (None, {"replicas": 3}, "replicas"),
    "unknown inner key": (None, {"resources": {"shmMib": 512}}, "shmMib"),
    "unknown profile": (None, {"profile": "tpu"}, "profile"),
    "floating tag": (None, {"image": {"tag": "latest"}}, "image"),
    "bad digest": (None, {"image": {"digest": "sha256:12"}}, "digest"),
    "no pods": (None, {"replicaCount": 0}, "replicaCount"),
    "secret in the environment of rclone": (
        None,
        {"model": {"objectStore": {"env": {"RCLONE_S3_SECRET_ACCESS_KEY": "x"}}}},
        "RCLONE_S3_SECRET_ACCESS_KEY",
    ),
    "a budget that stops drains": (None, {"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
    "mig without a profile": (None, {"gpu": {"mode": "mig"}}, "name the profile in gpu.migProfile"),
    "profile without mig": (None, {"gpu": {"migProfile": "1g.10gb"}}, "gpu.mode is not mig"),
    "object store without a place": (None, {"model": {"source": "objectStore"}}, "model.objectStore.path"),
    "image volume without a name": (None, {"model": {"source": "image"}}, "model.image.reference"),
    "claim without a name": (None, {"model": {"pvc": {"claimName": ""}}}, "model.pvc.claimName"),
    "tls without the gate": (
        None,
        {"gate": {"enabled": False}, "tls": {"mode": "existingSecret", "secretName": "t"}},
        "tls.mode needs gate.enabled",
    ),
    "keys without the gate": (
        None,
        {"gate": {"enabled": False}, "apiKeys": {"existingSecret": "k"}},
        "every process list shows them",
    ),
    "route without the gate": (
        None,
        {"gate": {"enabled": False}, "grpcRoute": {"enabled": True, "parentRefs": [{"name": "g"}]}},
        "inner models would be open",
    ),
    "route for everyone": (
        None,
        {"grpcRoute": {"enabled": True, "parentRefs": [{"name": "g"}]}},
        "neither tls.mode nor apiKeys.existingSecret",
    ),
    "certificate without a secret": (None, {"tls": {"mode": "existingSecret"}}, "tls.secretName"),
    "certificate without an issuer": (None, {"tls": {"mode": "certManager"}}, "issuerRef.name"),
    "ingress without a host": (
        None,
        {"ingress": {"enabled": True}, "apiKeys": {"existingSecret": "k"}},
        "ingress.host",
    ),
    "more at least than at most": (None, {"autoscaling": {"minReplicas": 9}}, "minReplicas is above"),
    "scale-down before a study ends": (
        None,
        {"autoscaling": {"mode": "keda", "scaleDownSeconds": 60}},
        "below drain.longestStudySeconds",
    ),
    "an update that cannot begin": (None, {"update": {"maxSurge": 0}}, "no update could ever begin"),
    "alerts without scrapes": (None, {"monitoring": {"rules": {"enabled": True}}}, "absent-target alert"),
    "an argument that the chart sets": (
        None,
        {"triton": {"extraArgs": ["--model-control-mode=poll"]}},
        "--model-control-mode is set by the chart",
    ),
    "foreign code": (None, {"triton": {"env": {"LD_PRELOAD": "/x.so"}}}, "which code runs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nonsense_is_refused(chart: Chart, case: str) -> None:
    preset, values, message = REFUSED[case]
    with pytest.raises(RenderError, match=".*" + message.replace(".", r"\.") + ".*"):
        chart.render(preset, values=values)


@pytest.mark.parametrize(
    ("kubernetes", "values", "message"),
    [
        ("1.31", {"gpu": {"mode": "dra"}}, "Kubernetes 1.32 or newer"),
        ("1.32", {"model": {"source": "image", "image": {"reference": "r/m:1"}}}, "Kubernetes 1.33 or newer"),
        ("1.28", {}, "incompatible with Kubernetes"),
    ],
)
def test_what_a_cluster_is_too_old_for_is_refused(
    chart: Chart, kubernetes: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(RenderError, match=message):
        chart.render(None, kubernetes=kubernetes, values=values)


def objects(schema: Any, path: str = "$") -> list[tuple[str, dict[str, Any]]]:
    """Every object schema that names properties."""
    found = [(path, schema)] if "properties" in schema else []
    for name, sub in schema.get("properties", {}).items():
        found += objects(sub, f"{path}.{name}")
    return found


def test_the_schema_is_closed_and_complete() -> None:
    """It knows each value and no other, at every level."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path, each in objects(schema):
        assert each["additionalProperties"] is False, path
        known = values
        for key in path.split(".")[1:]:
            known = known[key]
        assert each["properties"].keys() - {"global"} == known.keys(), path


def test_every_value_is_documented_and_the_readme_is_current() -> None:
    table = chart_script("chart_values_table")
    readme = (CHART / "README.md").read_text()
    assert table.with_table(readme) == readme, "run scripts/chart_values_table.py"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_says_only_what_differs(preset: str) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    override = yaml.safe_load((CHART / f"values-{preset}.yaml").read_text())

    def same(mine: Any, default: Any, path: str) -> list[str]:
        if not isinstance(mine, dict) or not isinstance(default, dict) or not default:
            return [path] if mine == default else []
        return [line for key, value in mine.items() for line in same(value, default[key], f"{path}.{key}")]

    marked_for_change = {
        ".model.source",
        ".model.pvc.claimName",
        ".image.repository",
        ".scheduling.zoneSpread",
    }
    assert set(same(override, values, "")) <= marked_for_change
