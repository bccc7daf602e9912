"""The estimates of a study's memory, held to what numpy really allocates."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from spinecore import memory
from spinecore.errors import InputError
from spinecore.findings import identify
from spinecore.geometry import Volume
from spinecore.network_spec import NetworkSpec
from spinecore.phantom import PhantomConfig, make_phantom
from spinecore.plan import Options
from spinecore.preprocessing import preprocess
from spinecore.segmentation import segment

NETWORK = Path(__file__).parents[2] / "model_repository" / "nnunet" / "1" / "network.json"
T = TypeVar("T")


def peak_bytes(work: Callable[[], T]) -> tuple[int, T]:
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def spec() -> NetworkSpec:
    return NetworkSpec.load(NETWORK)


def volume(spacing_mm: tuple[float, float, float], fov_mm: tuple[float, float, float]) -> Volume:
    config = PhantomConfig(seed=1, region="lumbar", spacing_mm=spacing_mm, orientation="LPS", fov_mm=fov_mm)
    phantom = make_phantom(config)
    return Volume(phantom.image[None].astype(np.float32), phantom.affine)


@pytest.mark.parametrize(
    ("spacing_mm", "fov_mm"),
    [((1.5, 1.5, 4.0), (250, 200, 60)), ((0.9, 0.9, 3.5), (250, 200, 60)), ((3.0,) * 3, (250, 250, 100))],
)
def test_no_stage_takes_more_than_is_estimated_nor_far_less(
    spec: NetworkSpec, spacing_mm: Any, fov_mm: Any
) -> None:
    study = volume(spacing_mm, fov_mm)
    answers = np.random.default_rng(0).standard_normal((1, spec.network_channels, *spec.patch_size))
    logits = answers.astype(np.float16)
    taken, prepared = peak_bytes(lambda: preprocess(study, spec))
    estimate = memory.preprocess_bytes(prepared.plan, spec)
    assert taken <= estimate <= 4 * taken
    taken, classes = peak_bytes(lambda: segment(prepared, spec, lambda patches: logits.copy()))
    estimate = memory.segment_bytes(prepared.plan, spec)
    assert taken <= estimate <= 4 * taken
    roles = {str(number): role for number, role in spec.roles.items()}
    taken, _ = peak_bytes(lambda: identify(classes, study, options=Options(), roles=roles))
    assert taken <= memory.identify_bytes(prepared.plan)


def test_a_study_that_needs_too_much_is_refused_before_anything_is_allocated(spec: NetworkSpec) -> None:
    study = volume((1.5, 1.5, 4.0), (250, 200, 60))
    needed = memory.needed_bytes(preprocess(study, spec).plan, spec)
    preprocess(study, spec, limit_bytes=needed)
    with pytest.raises(
        InputError, match=r"would need [\d,]+ MiB of memory; .* at most [\d,]+ MiB"
    ) as refused:
        preprocess(study, spec, limit_bytes=needed - 1)
    assert refused.value.code == "memory_limit"
    taken, _ = peak_bytes(lambda: _refused(study, spec))
    assert taken < study.voxels.nbytes


def _refused(study: Volume, spec: NetworkSpec) -> None:
    with pytest.raises(InputError):
        preprocess(study, spec, limit_bytes=1)
