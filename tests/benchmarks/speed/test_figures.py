"""What the benchmark makes of its measurements: small answers worked out by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from speed import plots, targets, volumes
from speed.concurrency import grown
from speed.growth import exponent
from speed.memory import PeakMemory, tree_mib
from speed.report import report
from speed.results import Store
from speed.stages import Reading

from spine_export.agreement import agreement
from spinecore.geometry import Volume

SCHEMA = Path(plots.__file__ or "").with_name("results.schema.json")
NAMES = {1: "body", 2: "disc", 3: "canal"}
PROVENANCE = {
    "date": "2026-01-02T03:04+00:00",
    "commit": "abc",
    "machine": "2 cores",
    "versions": {"numpy": "1"},
}


def system(*seconds: float, mib: float = 500.0, network: float = 0.0, worst: float = 1.0) -> dict[str, Any]:
    """A system's rounds; `network` seconds of each for 4 patches."""
    stages = {
        "preprocess": 0.1,
        "network": network,
        "handing": 0.0,
        "window": 0.1,
        "transfer": 0.1,
        "patches": 4.0,
    }
    agrees = {
        "dice": {"body": worst},
        "counted": ["body"],
        "mean": worst,
        "worst": worst,
        "equal_voxels": 1.0,
    }
    return {
        "seconds": list(seconds),
        "stages": [stages if network else {}] * len(seconds),
        "start_mib": 400.0,
        "peak_mib": mib,
        "agreement": agrees,
    }


def comparison(network: str = "full") -> dict[str, Any]:
    """(a) takes 40 s, exact 20 s, default 10 s of which 9.5 s are the network's."""
    return {
        "network": network,
        "volume": "lumbar_t2",
        "shape_zyx": [10, 20, 30],
        "classes": 20,
        "tiles": 4,
        "threads": 2,
        "patch_flops": 100 * 10**9,
        "peak_flops": {"f32": 50e9, "bf16": 50e9},
        "engine_patch_s": {"exact": 4.5, "default": 2.2},
        "provenance": PROVENANCE,
        "systems": {
            "nnunet": system(41.0, 40.0, 30.0, mib=2000.0),
            "spineserve exact": system(20.0, 19.0, 30.0, network=18.0, worst=0.9995),
            "spineserve default": system(10.0, 10.0, 10.0, network=9.5, mib=1300.0, worst=0.98),
        },
    }


def series() -> dict[str, Any]:
    points = [
        {"x": x, "seconds": 0.3 + x, "other_s": x, "peak_mib": 600.0 + x, "grown_mib": x}
        | {"tiles": 1, "network_s": 0.3}
        for x in (1.0, 2.0, 4.0)
    ]
    told = {"series": "finer", "axis": "voxels", "mode": "default", "threads": 2, "provenance": PROVENANCE}
    return told | {"points": points, "exponents": {"memory": 1.0, "seconds": 1.2}}


def crowd() -> dict[str, Any]:
    throughput = {"clients": 4, "volumes": 24, "seconds": 60.0}
    fairness = {"small_alone_s": 0.5, "small_s": 1.0, "large_alone_s": 4.0, "large_s": 5.0}
    memory = {"volumes": 200, "samples_mib": [[10, 700.0]], "after": 20.0, "first_mib": 700.0}
    return {
        "network": "demo",
        "volume": "lumbar_t2",
        "provenance": PROVENANCE,
        "throughput": throughput | {"per_hour": 1440.0, "allowed_per_hour": 1500.0, "part": 0.96},
        "fairness": fairness | {"small_slowdown": 2.0, "large_slowdown": 1.25, "ratio": 1.6},
        "memory": memory | {"last_mib": 701.0, "grown_mib": 1.0},
    }


def document(**parts: Any) -> dict[str, Any]:
    return {
        "kind": "spineserve.benchmark.speed",
        "format": 1,
        "compare": [],
        "growth": [],
        "concurrency": [],
    } | parts


def test_targets_are_reached_or_missed_by_the_medians() -> None:
    found = {each.target: each for each in targets.verdicts(document(compare=[comparison()]))}
    assert found["exact: times faster"].found == pytest.approx(2.0)
    assert found["exact: times faster"].reached
    assert found["default: times faster"].found == pytest.approx(4.0)
    assert found["default: not the network"].found == pytest.approx(0.05)
    assert found["exact: not the network"].found == pytest.approx(0.1)
    assert found["default: network over peak"].found == pytest.approx((9.5 / 4) / 2.0)
    assert found["default: peak memory"].found == pytest.approx(0.65)
    assert not found["default: peak memory"].reached
    assert found["exact: worst Dice"].reached
    assert not found["default: mean Dice"].reached


def test_the_demo_network_is_held_to_its_own_targets() -> None:
    found = {each.target: each.reached for each in targets.verdicts(document(compare=[comparison("demo")]))}
    assert found == {
        "default: times faster": True,
        "default: seconds": False,
        "exact: worst Dice": True,
        "default: mean Dice": False,
    }


def test_the_report_names_what_is_missed_and_where_it_was_measured() -> None:
    text = report(document(compare=[comparison()]))
    assert "2026-01-02, 2 cores, commit abc" in text
    missed = [line.split("|")[1].strip() for line in text.splitlines() if "MISSED" in line]
    assert missed == ["exact: network over peak", "default: peak memory", "default: mean Dice"]
    row = next(line for line in text.splitlines() if line.startswith("| spineserve default"))
    assert [cell.strip() for cell in row.split("|")][2:7] == ["10.00", "10.00", "10.00", "3", "4.00"]


def test_all_parts_are_in_the_report_the_targets_and_the_plots(tmp_path: Path) -> None:
    whole = document(compare=[comparison()], growth=[series()], concurrency=[crowd()])
    jsonschema.validate(whole, json.loads(SCHEMA.read_text()))
    found = {each.target: each.reached for each in targets.verdicts(whole)}
    assert found["growth exponent, memory"]
    assert not found["growth exponent, seconds"]
    assert found["throughput of what the network allows"]
    assert not found["small against large volume's slowdown"]
    assert found["MiB grown over the volumes"]
    text = report(whole)
    assert "24 volumes in 60.0 s, 1440 an hour; the network alone allows 1500: 96.0 %" in text
    assert "slowdowns 2.00 and 1.25, ratio 1.60" in text
    written = plots.draw(whole, tmp_path)
    assert [path.name for path in written] == ["compare-full.png", "growth.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_a_stopped_run_is_taken_up_where_it_was_and_joins_by_its_schema(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.read("compare", "full-lumbar_t2") == {}
    store.write("compare", "full-lumbar_t2", comparison())
    assert store.read("compare", "full-lumbar_t2") == comparison()
    store.write("compare", "demo-lumbar_t2", comparison("demo"))
    store.forget("compare", "demo-lumbar_t2")
    joined = store.join()
    assert joined == document(compare=[comparison()])
    jsonschema.validate(json.loads((tmp_path / "bench.json").read_text()), json.loads(SCHEMA.read_text()))


def test_agreement_counts_large_classes_of_the_reference() -> None:
    reference = np.zeros((3, 40, 100), np.uint8)
    reference[0], reference[1, 0, :50] = 1, 2
    labels = reference.copy()
    labels[0, :10] = 0  # 1000 of body's 4000 voxels
    labels[2, 0, 0] = 3
    found = agreement(labels, reference, NAMES)
    assert found["dice"] == {"body": pytest.approx(6000 / 7000), "disc": 1.0, "canal": 0.0}
    assert found["counted"] == ["body"]
    assert found["mean"] == found["worst"] == pytest.approx(6 / 7)
    assert found["equal_voxels"] == pytest.approx(1 - 1001 / 12000)


def test_agreement_leaves_out_a_class_that_is_only_specks() -> None:
    reference = np.zeros((3, 60, 100), np.uint8)
    reference[0, :40], reference[1, ::2, ::2] = 1, 2
    found = agreement(np.minimum(reference, 1), reference, NAMES)
    assert (reference == 2).sum() == 1500 and found["counted"] == ["body"]


def test_stages_share_out_the_whole_request() -> None:
    zero = {"queue": 0.0, "compute_input": 0.0, "compute_infer": 0.0, "compute_output": 0.0, "count": 0.0}
    before = Reading({name: zero | {"compute_infer": 7.0} for name in ("preprocess", "segment", "nnunet")})
    after = Reading(
        {
            "preprocess": zero | {"compute_infer": 7.5},
            "segment": zero | {"compute_infer": 10.0},
            "nnunet": zero | {"compute_infer": 9.0, "queue": 0.25, "compute_output": 0.25, "count": 6.0},
        }
    )
    found = after.since(before).stages(4.0)
    assert found == {
        "preprocess": 0.5,
        "network": 2.0,
        "handing": 0.5,
        "window": 0.5,
        "transfer": 0.5,
        "patches": 6.0,
    }


def test_growth_exponents() -> None:
    x = [1.0, 2.0, 4.0, 8.0]
    assert exponent(x, [3 * each for each in x]) == pytest.approx(1.0)
    assert exponent(x, [each**2 for each in x]) == pytest.approx(2.0)


def test_memory_that_rises_is_told_from_memory_that_is_only_filled_once() -> None:
    settles = [(10, 300.0), (20, 400.0), (30, 401.0), (40, 399.0), (50, 400.0)]
    assert grown(settles)["grown_mib"] == pytest.approx(-0.3, abs=0.4)
    assert grown([(n, 400.0 + n) for n in range(20, 201, 10)])["grown_mib"] == pytest.approx(180.0)


@pytest.mark.parametrize("times", [1, 2, 4, 8])
def test_volumes_grow_in_field_or_in_resolution(times: int) -> None:
    affine = np.array([[0, 0, 4.0, 5], [0.5, 0, 0, 6], [0, -0.5, 0, 7], [0, 0, 0, 1]])
    volume = Volume(np.arange(3 * 4 * 5, dtype=np.int16).reshape(1, 3, 4, 5), affine)
    larger, finer = volumes.larger(volume, times), volumes.finer(volume, times)
    assert larger.voxels.size == finer.voxels.size == times * volume.voxels.size
    assert larger.spacing_zyx == volume.spacing_zyx
    corner = np.array([-0.5, -0.5, -0.5, 1.0])
    np.testing.assert_allclose(finer.affine @ corner, affine @ corner)
    end = np.array([*(n - 0.5 for n in reversed(finer.shape_zyx)), 1.0])
    np.testing.assert_allclose(finer.affine @ end, affine @ [4.5, 3.5, 2.5, 1.0])


def test_memory_of_a_tree_counts_shared_pages_once() -> None:
    program = (
        "import os, time\nheld = bytearray(b'x') * (64 << 20)\nos.fork()\nprint('up', flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        with PeakMemory(process.pid) as memory:
            alone = tree_mib(process.pid)
        for pid in _children(process.pid):
            subprocess.run(["kill", str(pid)], check=True)
        process.kill()
    assert 64 < alone < 120
    assert memory.peak_mib >= memory.start_mib > 64


def _children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
