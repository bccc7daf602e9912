"""Rules, dashboard and scaling ask for metrics that exist, and alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_support import CHART, TOOLS, Chart, only

HERE = Path(__file__).parent
LIVE_NAMES = HERE / "data" / "live_metric_names.txt"
"""Names in a scrape of the embedded server and the gate, held to a live one by test_live.py."""
GPU_NAMES = {
    "nv_gpu_utilization",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_usage",
    "nv_gpu_power_limit",
    "nv_energy_consumption",
}
"""From Triton's docs/user_guide/metrics.md; they appear only where there is a GPU."""
KUBERNETES_NAMES = {
    "kube_horizontalpodautoscaler_status_current_replicas",
    "kube_horizontalpodautoscaler_spec_max_replicas",
    "kube_pod_container_status_restarts_total",
    "kube_pod_init_container_status_restarts_total",
}
"""From kube-state-metrics' docs, pod-metrics.md and horizontalpodautoscaler-metrics.md."""
DIRECT = {"gate": {"enabled": False}, "monitoring": {"scrape": "podMonitor", "rules": {"enabled": True}}}


def metric_names(expression: str) -> set[str]:
    """The metrics an expression asks for: identifiers outside quotes and braces."""
    bare = re.sub(r"\{[^}]*\}", "{}", re.sub(r'"[^"]*"', '""', expression))
    bare = re.sub(r"\b(by|on|without)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"\b(?:nv|kube|spineserve)[_:][a-z0-9_:]+", bare))


def known_names(rules: list[dict[str, Any]]) -> set[str]:
    live = set(LIVE_NAMES.read_text().split())
    return live | GPU_NAMES | KUBERNETES_NAMES | {rule["record"] for rule in rules if "record" in rule}


def rules_of(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups = only(manifests, "PrometheusRule")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("values", [{}, DIRECT], ids=["gate", "direct"])
def test_rules_ask_for_metrics_that_exist(chart: Chart, values: dict[str, Any]) -> None:
    rules = rules_of(chart.render("production" if not values else None, values=values))
    assert len(rules) > 12
    for rule in rules:
        names = metric_names(rule["expr"])
        assert names and names <= known_names(rules), rule


def test_the_dashboard_asks_for_metrics_that_exist(chart: Chart) -> None:
    content = only(chart.render("production"), "ConfigMap", "rel-spineserve-dashboard")["data"]
    dashboard = json.loads(content["spineserve.json"])
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 15
    for expression in expressions:
        names = metric_names(expression)
        assert names and names <= known_names([]), expression


def test_scaling_asks_for_metrics_that_exist(chart: Chart) -> None:
    for preset, values in (("production", {}), (None, {**DIRECT, "autoscaling": {"mode": "keda"}})):
        manifests = chart.render(preset, values=values)
        for trigger in only(manifests, "ScaledObject")["spec"]["triggers"]:
            names = metric_names(trigger["metadata"]["query"])
            assert names and names <= known_names([])


def test_adapter_rules_in_the_runbook_give_the_hpas_metrics(chart: Chart) -> None:
    recorded = {rule.get("record") for rule in rules_of(chart.render("production"))}
    text = (CHART / "RUNBOOK.md").read_text()
    adapter = yaml.safe_load(text.partition("```yaml")[2].partition("```")[0])["externalRules"]
    assert {rule["seriesQuery"] for rule in adapter} <= recorded
    hpa = only(chart.render(None, values={"autoscaling": {"mode": "hpa"}}), "HorizontalPodAutoscaler")
    wanted = {metric["external"]["metric"]["name"] for metric in hpa["spec"]["metrics"]}
    assert {rule["name"]["as"] for rule in adapter} == wanted


def test_each_alert_has_its_place_in_the_runbook(chart: Chart) -> None:
    headings = re.findall(r"^## (.+)$", (CHART / "RUNBOOK.md").read_text(), re.M)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for rule in rules_of(chart.render("production")):
        if "alert" in rule:
            assert rule["annotations"]["runbook_url"].partition("#")[2] in anchors
            assert rule["labels"]["severity"] in ("critical", "warning")


@pytest.fixture
def rules_file(chart: Chart, tmp_path: Path) -> Path:
    spec = only(chart.render("production"), "PrometheusRule")["spec"]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def promtool(*arguments: str) -> str:
    done = subprocess.run([str(TOOLS.promtool()), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules(rules_file: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", str(rules_file))


def test_alerts_fire_when_they_should_and_not_otherwise(rules_file: Path) -> None:
    tests = shutil.copy(HERE / "promtool" / "alerts.test.yaml", rules_file.parent)
    assert "SUCCESS" in promtool("test", "rules", str(tests))


def test_the_unit_tests_cover_every_alert(chart: Chart) -> None:
    """Each alert is shown firing somewhere, and silent somewhere."""
    cases = yaml.safe_load((HERE / "promtool" / "alerts.test.yaml").read_text())["tests"]
    shown = [each for case in cases for each in case.get("alert_rule_test", ())]
    alerts = {rule["alert"] for rule in rules_of(chart.render("production")) if "alert" in rule}
    assert alerts == {each["alertname"] for each in shown if each["exp_alerts"]}
    assert alerts == {each["alertname"] for each in shown if not each["exp_alerts"]}
