"""Renders the chart with the real helm, and holds what comes out to strict schemas."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from kubernetes_validate import utils as kubernetes_schemas
from referencing import Registry, Resource

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "spineserve"
SCHEMAS = Path(__file__).parents[1] / "schemas"
PRESETS = ("cpu", "single-gpu", "production", "mig")
NEWEST = kubernetes_schemas.latest_version().rpartition(".")[0]
KUBERNETES = tuple(f"1.{minor}" for minor in range(29, int(NEWEST.partition(".")[2]) + 1))

Manifest = dict[str, Any]


def chart_script(name: str) -> Any:
    """One of the modules in scripts/, which are no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


TOOLS = chart_script("chart_tools")


class RenderError(Exception):
    """helm refused the values; the text is what the user reads."""


class Chart:
    """The chart, rendered by the real helm."""

    path = CHART

    def render(
        self, preset: str | None = None, *, kubernetes: str = NEWEST, values: Mapping[str, Any] | None = None
    ) -> list[Manifest]:
        """All manifests of a preset (None: the defaults) with `values` (nested) on top."""
        text = _rendered(preset, kubernetes, json.dumps(values or {}))
        return [document for document in yaml.safe_load_all(text) if document]


def helm(*arguments: str) -> str:
    """Run helm; its output.

    Raises
    ------
    RenderError
        helm refused.
    """
    done = subprocess.run([str(TOOLS.helm()), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RenderError(done.stderr)
    return done.stdout


@functools.cache
def _rendered(preset: str | None, kubernetes: str, values: str) -> str:
    files = ["-f", str(CHART / f"values-{preset}.yaml")] if preset else []
    command = ["template", "rel", str(CHART), "-n", "imaging", "--kube-version", f"{kubernetes}.0", *files]
    return helm(*command, "--set-json", values) if values != "{}" else helm(*command)


def only(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The one manifest of a kind."""
    found = [each for each in manifests if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} manifests of kind {kind}"
    return found[0]


def containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod's spec, init containers first."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def container(pod: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One container by name."""
    return next(each for each in containers(pod) if each["name"] == name)


class Validator:
    """Holds manifests to Kubernetes' own schemas and to those of custom resources, unknown fields refused."""

    def problems(self, manifest: Manifest, kubernetes: str) -> list[str]:
        """One line for each thing that the API server would refuse or silently drop."""
        return _problems(json.dumps(manifest, sort_keys=True), kubernetes)


@functools.cache
def _problems(text: str, kubernetes: str) -> list[str]:
    manifest = json.loads(text)
    kind = manifest["kind"]
    where = f"{kind} {manifest['metadata']['name']} for {kubernetes}"
    try:
        found = list(_validator(kind, manifest["apiVersion"], kubernetes).iter_errors(manifest))
    except FileNotFoundError:
        return [f"{where}: no schema for {manifest['apiVersion']}"]
    return [f"{where}: {error.json_path}: {error.message[:300]}" for error in found]


@functools.cache
def _validator(kind: str, api_version: str, kubernetes: str) -> Any:
    if (custom := SCHEMAS / f"{kind}.json").is_file():
        return jsonschema.Draft202012Validator(json.loads(custom.read_text()))
    folder = f"kubernetes-json-schema/v{kubernetes}.0-local-strict"
    short = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = _packaged(f"{folder}/{kind.lower()}-{short}.json")
    registry: Registry[Any] = Resource.from_contents(schema) @ Registry()
    registry = Resource.from_contents(_packaged(f"{folder}/_definitions.json")) @ registry
    return jsonschema.Draft202012Validator(schema, registry=registry)


@functools.cache
def _packaged(name: str) -> Any:
    return json.loads((Path(kubernetes_validate.__file__).parent / name).read_text())
