"""The compiled arithmetic on float16 against the plain one, bit for bit, and the build that compiles it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from spinecore import kernels, restore, tiling
from spinecore.kernels import Axis, Compiled, Reference, interpolated, load
from spinecore.network_spec import Resampling
from spinecore.resampling import apply_all, axis_operators
from spinecore.tiling import SlidingWindow, mean_of_folds

CORE = Path(__file__).parents[2] / "core"
EVERY = np.arange(2**16, dtype=np.uint16).view(np.float16)
FINITE = EVERY[np.isfinite(EVERY)]
PLAIN = Reference()


def the_build() -> ModuleType:
    pytest.importorskip("hatchling")
    found = importlib.util.spec_from_file_location("hatch_build", CORE / "hatch_build.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """What the build hook makes of the source as it is, not what may lie beside the modules."""
    if shutil.which(os.environ.get("CC", "cc").split()[0]) is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("kernels") / "_kernels.so"
    wrong = the_build().compile_kernels(CORE / "src" / "spinecore" / "_kernels.c", library)
    assert wrong is None, wrong
    loaded = load(library)
    if not isinstance(loaded, Compiled):
        pytest.skip("this processor cannot run the kernels")
    return loaded


def same(left: np.ndarray, right: np.ndarray) -> None:
    """Equal to the bit, the sign of zero included; any NaN is like any other."""
    assert left.dtype == right.dtype and left.shape == right.shape
    numbers = ~np.isnan(right)
    np.testing.assert_array_equal(np.isnan(left), ~numbers)
    bits = f"u{left.itemsize}"
    np.testing.assert_array_equal(left[numbers].view(bits), right[numbers].view(bits))


def some(generator: np.random.Generator, shape: tuple[int, ...], dtype: type = np.float16) -> np.ndarray:
    """Values of all magnitudes of float16, subnormals, zeros of both signs and equal ones among them."""
    values = generator.normal(size=shape) * 10.0 ** generator.integers(-8, 3, shape)
    values[generator.random(shape) < 0.1] = 0.0
    values[generator.random(shape) < 0.1] = -0.0
    return values.astype(dtype)


SHAPES = [(1, 1, 1, 1), (3, 2, 3, 7), (2, 3, 2, 8), (2, 2, 3, 9), (5, 4, 6, 37), (2, 3, 4, 64)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_merging_is_the_plain_ones(compiled: Compiled, shape: tuple[int, ...], dtype: type) -> None:
    generator = np.random.default_rng(0)
    sums, logits = some(generator, shape), some(generator, shape, dtype)
    weights = generator.uniform(6e-8, 10, shape[1:]).astype(np.float16).astype(np.float32)
    expected = sums.copy()
    assert PLAIN.merge(expected, logits, weights)
    assert compiled.merge(sums, logits, weights)
    same(sums, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_merging_takes_views_and_leaves_alone_what_is_beside_them(compiled: Compiled, dtype: type) -> None:
    generator = np.random.default_rng(1)
    sums, weights = some(generator, (3, 9, 11, 40)), some(generator, (12, 12, 40), np.float32)
    logits = some(generator, (3, 12, 12, 40), dtype)
    here = (slice(None), slice(2, 8), slice(1, 10), slice(3, 30))
    kept = (slice(5, 11), slice(0, 9), slice(11, 38))
    for answer in (logits, np.asfortranarray(logits), logits[..., ::-1]):
        expected, ours = sums.copy(), sums.copy()
        assert PLAIN.merge(expected[here], answer[(slice(None), *kept)], weights[kept])
        assert compiled.merge(ours[here], answer[(slice(None), *kept)], weights[kept])
        same(ours, expected)


def test_every_half_is_multiplied_right(compiled: Compiled) -> None:
    logits = FINITE.reshape(1, 1, 2, -1)
    weights = np.random.default_rng(2).uniform(6e-8, 1, logits.shape[1:]).astype(np.float32)
    sums, expected = np.zeros_like(logits), np.zeros_like(logits)
    assert PLAIN.merge(expected, logits, weights) and compiled.merge(sums, logits, weights)
    same(sums, expected)


def test_sums_are_rounded_to_even_everywhere(compiled: Compiled) -> None:
    exact = np.sort(FINITE).astype(np.float32)
    ties = (exact[1:] + exact[:-1]) / 2
    for values in (exact, ties, np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, -ties)):
        sums = np.zeros((1, 1, 1, len(values)), dtype=np.float16)
        assert compiled.merge(sums, values.reshape(sums.shape), np.ones((1, 1, 1), dtype=np.float32))
        np.testing.assert_array_equal(sums.reshape(-1), values.astype(np.float16))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 6600])
@pytest.mark.parametrize("at", [0, 3, 8, 12])
@pytest.mark.parametrize("length", [13, 5])
def test_what_is_not_finite_is_told(
    compiled: Compiled, dtype: type, value: float, at: int, length: int
) -> None:
    weights = np.full((2, 2, length), 10, dtype=np.float32)
    logits = np.ones((2, 2, 2, length), dtype=dtype)
    logits[1, 1, 0, min(at, length - 1)] = value
    for kind in (compiled, PLAIN):
        sums = np.zeros(logits.shape, dtype=np.float16)
        assert not kind.merge(sums, logits, weights)
        assert not kind.divide(sums, np.ones((2, 2, length), dtype=np.float16))
        assert np.isfinite(sums).sum() == sums.size - 1


@pytest.mark.parametrize("shape", SHAPES)
def test_dividing_and_foreground_are_the_plain_ones(compiled: Compiled, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(3)
    wide = some(generator, (*shape[:-1], shape[-1] + 3))
    weights = generator.uniform(1e-3, 20, (*shape[1:-1], shape[-1] + 2)).astype(np.float16)[..., 2:]
    for sums in (wide[..., 2:-1], np.ascontiguousarray(wide[..., 2:-1])):
        ours, plain = sums.copy(), sums.copy()
        assert compiled.divide(ours, weights) and PLAIN.divide(plain, weights)
        same(ours, plain)
        for regions in (False, True):
            same(compiled.foreground(sums, regions=regions), PLAIN.foreground(sums, regions=regions))


def test_comparing_knows_no_order_for_nan_and_one_zero(compiled: Compiled) -> None:
    pairs = np.array(np.meshgrid(EVERY[:: 2**7], EVERY[:: 2**7])).reshape(2, 1, 4, -1)
    for regions in (False, True):
        same(compiled.foreground(pairs, regions=regions), PLAIN.foreground(pairs, regions=regions))


def axes_for(coarse: tuple[int, ...], fine: tuple[int, ...], seed: int) -> list[Axis]:
    """Two neighbours at random, or one, for every fine value; the axes in any order."""
    generator = np.random.default_rng(seed)
    axes = []
    for number, (n_in, n_out) in enumerate(zip(coarse, fine, strict=True)):
        low = generator.integers(0, n_in, n_out)
        index = np.stack([low, np.minimum(low + 1, n_in - 1)]).astype(np.int32)
        part = np.where(generator.random(n_out) < 0.2, 1, generator.random(n_out)).astype(np.float32)
        axes.append(Axis(number, index, np.stack([part, 1 - part])))
    return [axes[number] for number in generator.permutation(3)]


@pytest.mark.parametrize("seed", range(24))
def test_classes_are_the_plain_ones(compiled: Compiled, seed: int) -> None:
    generator = np.random.default_rng(seed)
    outputs, *coarse = (int(n) for n in generator.integers(1, 24, 4))
    fine = tuple(int(n) for n in generator.integers(1, 40, 3))
    axes = axes_for(tuple(coarse), fine, seed)
    wide = some(generator, (outputs, coarse[0], coarse[1], coarse[2] + 2))
    wide[generator.random(wide.shape) < 0.3] = np.float16(0.5)  # many ties
    numbers = tuple(int(n) for n in generator.permutation(outputs) + 1)
    for logits in (wide[..., 1:-1], np.asfortranarray(wide[..., 1:-1])):
        for rounded in (False, True):
            for regions in (None, numbers):
                ours = compiled.classify(logits, axes, rounded=rounded, regions=regions)
                same(ours, PLAIN.classify(logits, axes, rounded=rounded, regions=regions))
                assert ours.shape == fine


@pytest.mark.parametrize("seed", range(8))
def test_interpolating_is_the_sparse_operators(seed: int) -> None:
    """What the way back took its values from before: the same operations in the same order."""
    generator = np.random.default_rng(seed)
    coarse = tuple(int(n) for n in generator.integers(2, 20, 3))
    fine = tuple(int(n) for n in generator.integers(2, 40, 3))
    resampling = Resampling(order=1, order_z=0)
    operators = axis_operators(coarse, fine, resampling, apart=(None, 0, 1, 2)[seed % 4])
    box = some(generator, coarse)
    axes = [restore._linear(number, operator) for number, operator in enumerate(operators)]
    axes.sort(key=lambda axis: fine[axis.number] / coarse[axis.number])
    expected = apply_all([each.astype(np.float32) for each in operators], box.astype(np.float32))
    np.testing.assert_array_equal(interpolated(box, axes, rounded=False), expected)
    np.testing.assert_array_equal(interpolated(box, axes, rounded=True), expected.astype(np.float16))


def test_other_types_are_refused(compiled: Compiled) -> None:
    single = np.zeros((1, 1, 1, 8), dtype=np.float32)
    with pytest.raises(TypeError):
        compiled.merge(single, single, single[0])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        compiled.foreground(single, regions=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        compiled.merge(single.astype(np.float16), single[..., :4], single[0])
    with pytest.raises(ValueError, match="regions"):
        compiled.classify(
            single.astype(np.float16), axes_for((1, 1, 8), (1, 1, 8), 0), rounded=True, regions=(1, 2)
        )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(40, 30, 20), (17, 21, 5)])
def test_a_window_gives_the_same_with_and_without(
    compiled: Compiled, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], dtype: type
) -> None:
    def merged(kind: Reference) -> tuple[np.ndarray, np.ndarray]:
        monkeypatch.setattr(tiling, "KERNELS", kind)
        generator = np.random.default_rng(4)
        window = SlidingWindow(
            np.zeros((1, *shape), np.float32), patch=(24, 20, 16), step_size=0.5, num_outputs=6
        )
        for origin in window.origins:
            window.add(origin, (generator.normal(size=(6, 24, 20, 16)) * 20).astype(dtype))
        found = window.foreground(regions=False)
        return found, mean_of_folds(window.logits(), 2)

    for ours, plain in zip(merged(compiled), merged(PLAIN), strict=True):
        same(ours, plain)


def test_one_place_decides_what_is_used() -> None:
    assert tiling.KERNELS is restore.KERNELS is kernels.KERNELS


def test_without_a_library_or_with_another_version_numpy_does_it(
    compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(load(tmp_path / "none.so")) is Reference
    (tmp_path / "text.so").write_text("no library")
    assert type(load(tmp_path / "text.so")) is Reference
    built = Path(compiled._library._name)
    assert type(load(built)) is Compiled
    monkeypatch.setattr(kernels, "VERSION", kernels.VERSION + 1)
    assert type(load(built)) is Reference


@pytest.mark.parametrize("compiler", ["cc", "false", "no-such-compiler"])
def test_the_wheel_holds_the_library_where_it_can_be_built(compiler: str, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    if compiler == "cc" and shutil.which("cc") is None:
        pytest.skip("no C compiler")
    project = tmp_path / "core"
    shutil.copytree(CORE, project, ignore=shutil.ignore_patterns("__pycache__", "*.so", "phantom"))
    (project / "src" / "spinecore" / "_kernels.so").write_text("an older one, of another machine")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=project, env={**os.environ, "CC": compiler}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "spinecore/kernels.py" in names
    if compiler == "cc":
        assert "spinecore/_kernels.so" in names and "-py3-none-" in wheel.name and "any" not in wheel.name
        zipfile.ZipFile(wheel).extract("spinecore/_kernels.so", tmp_path)
        assert b"spine_merge" in (tmp_path / "spinecore" / "_kernels.so").read_bytes()
    else:
        assert "spinecore/_kernels.so" not in names and wheel.name.endswith("-py3-none-any.whl")
        assert f"numpy does it slower: {compiler}" in done.stderr
