"""The whole comparison on a small phantom: real systems, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from speed import networks
from speed.compare import Setting, compare
from speed.networks import Shelf
from speed.results import Store


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_systems_are_compared_in_turn_and_a_second_call_measures_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    setting = Setting(Store(tmp_path), Shelf(tmp_path / "networks"), threads=2, rounds=1, say=said.append)
    piece = compare(setting, "demo", "small")
    systems = piece["systems"]
    assert list(systems) == [
        "nnunet",
        "fastapi",
        *(name for name in systems if name.startswith("spineserve ")),
    ]
    assert {"spineserve exact", "spineserve default"} <= set(systems)
    assert all(len(kept["seconds"]) == 1 for kept in systems.values())
    assert systems["fastapi"]["agreement"]["equal_voxels"] == 1.0
    assert systems["spineserve exact"]["agreement"]["equal_voxels"] > 0.9999
    assert systems["spineserve default"]["agreement"]["mean"] > 0.98
    stages = systems["spineserve default"]["stages"][0]
    assert stages["patches"] == piece["tiles"] == 1
    assert 0 < stages["network"] < systems["spineserve default"]["seconds"][0]
    again = compare(setting, "demo", "small")
    assert again == piece
    assert "all 1 rounds are there" in said[-1]


def test_operations_are_counted_from_the_network_itself(tmp_path: Path) -> None:
    trained = Shelf(tmp_path).trained("demo")
    assert networks.patch_flops(trained) == pytest.approx(91.96e9, rel=0.01)
