"""Fixtures of the chart's tests. Helpers live in `support/`, which is put on the import path here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))

from chart_support import Chart, Validator, only


@pytest.fixture(scope="session")
def chart() -> Chart:
    """The chart."""
    return Chart()


@pytest.fixture(scope="session")
def validator() -> Validator:
    """The strict validator, whose schemas are loaded once."""
    return Validator()


@pytest.fixture(scope="session")
def pod_of(chart: Chart) -> Callable[..., dict[str, Any]]:
    """The stable deployment's pod spec of a preset."""

    def pod(preset: str | None = None, **options: Any) -> dict[str, Any]:
        deployment = only(chart.render(preset, **options), "Deployment", "rel-spineserve")
        spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
        return spec

    return pod
