"""The parity table's cases, all kinds of models in all precisions; `make parity` prints the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from spine_export.parity.__main__ import run_case
from spine_export.parity.cases import CASES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_model_answers_as_nnunetpredictor(name: str, tmp_path: Path) -> None:
    found = list(run_case(name, CASES[name], tmp_path, precisions=("fp32", "fp16")))
    assert {verification.precision for verification in found} == set(CASES[name].precisions) - {"int8"}
    for verification in found:
        assert verification.comparisons
        assert verification.missed == []
