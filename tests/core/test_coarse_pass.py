"""The coarse pass: no tile is left out that something found needs, worked out by hand and at random."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spinecore import coarse_pass, workers
from spinecore.coarse_pass import Found, Scout, cell_means, cover, tiles_for, without_specks
from spinecore.errors import ModelError
from spinecore.geometry import Volume
from spinecore.network_spec import NetworkSpec
from spinecore.plan import Options, Prepared
from spinecore.preprocessing import preprocess
from spinecore.segmentation import segment_tiles
from spinecore.tiling import SlidingWindow

SPEC = NetworkSpec.load(Path(__file__).parents[2] / "model_repository" / "nnunet" / "1" / "network.json")
BRIGHT = 3.0


def a_window(shape: tuple[int, int, int], patch: tuple[int, int, int], step: float = 0.5) -> SlidingWindow:
    return SlidingWindow(np.zeros((1, *shape), np.float32), patch=patch, step_size=step, num_outputs=2)


def found_at(*points: tuple[float, float, float]) -> Found:
    return Found(np.array(points, dtype=float).reshape(-1, 3), np.zeros(3))


def test_one_tile_is_enough_for_what_lies_inside_it() -> None:
    window = a_window((4, 24, 4), (4, 8, 4))  # along y: tiles at 0, 4, 8, 12, 16
    assert tiles_for(found_at((2, 9, 2)), window, margin=np.full(3, 2.0)) == [(0, 4, 0)]
    assert tiles_for(found_at((2, 12, 2)), window, margin=np.full(3, 2.0)) == [(0, 8, 0)]
    assert tiles_for(found_at((2, 7, 2), (2, 12.9, 2)), window, margin=np.full(3, 2.0)) == [
        (0, 4, 0),
        (0, 8, 0),
    ]


def test_the_volumes_border_is_no_border_of_a_tile() -> None:
    window = a_window((4, 24, 4), (4, 8, 4))
    assert tiles_for(found_at((0.5, 0.5, 3.5), (2, 23.5, 2)), window, margin=np.full(3, 2.0)) == [
        (0, 0, 0),
        (0, 16, 0),
    ]


def test_tiles_that_ran_are_not_asked_for_again() -> None:
    window = a_window((4, 24, 4), (4, 8, 4))
    found = found_at((2, 4, 2), (2, 12, 2))
    assert tiles_for(found, window, margin=np.full(3, 2.0), ran=[(0, 8, 0)]) == [(0, 0, 0)]


def test_all_tiles_run_where_nothing_was_found() -> None:
    window = a_window((4, 24, 4), (4, 8, 4))
    assert tiles_for(found_at(), window, margin=np.full(3, 2.0)) == window.origins
    assert tiles_for(found_at(), window, margin=np.full(3, 2.0), ran=window.origins[:2]) == window.origins[2:]


@pytest.mark.parametrize("seed", range(12))
def test_everything_found_lies_well_inside_a_tile_or_as_deep_as_any_tile_has_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patch = tuple(int(n) for n in rng.integers(8, 20, 3))
    shape = tuple(int(n) for n in rng.integers(6, 60, 3))
    window = a_window(shape, patch, float(rng.choice([0.3, 0.5, 0.8, 1.0])))  # type: ignore[arg-type]
    points = rng.uniform(0, 1, (rng.integers(1, 60), 3)) * window.shape
    margin = rng.uniform(0, 6, 3)
    chosen = tiles_for(Found(points, np.zeros(3)), window, margin=margin)
    assert set(chosen) <= set(window.origins)

    def depth(point: np.ndarray, origin: tuple[int, int, int]) -> float:
        """In margins, of the shallowest axis; beyond the volume's border there is nothing."""
        each = []
        for at, start, side, size, least in zip(point, origin, patch, window.shape, margin, strict=True):
            below = np.inf if start == 0 and at >= 0 else at - start
            above = np.inf if start + side == size and at <= size else start + side - at
            each.append((min(below, above) - least) / least)
        return min(each)

    for point in points:
        best = max(depth(point, origin) for origin in chosen)
        assert best >= 0 or best == pytest.approx(max(depth(point, origin) for origin in window.origins))


@pytest.mark.parametrize("shape", [(40, 9, 7), (17, 33, 8), (8, 8, 8), (64, 21, 50)])
@pytest.mark.parametrize("step", [0.25, 0.5, 0.9])
def test_the_covering_tiles_leave_no_voxel_out(shape: tuple[int, int, int], step: float) -> None:
    window = a_window(shape, (12, 10, 8), step)
    seen = np.zeros(window.shape, dtype=bool)
    for z, y, x in cover(window):
        seen[z : z + 12, y : y + 10, x : x + 8] = True
    assert seen.all()
    assert len(cover(window)) <= len(window)


def test_cells_average_the_voxels_they_hold() -> None:
    np.testing.assert_allclose(cell_means(3, 2.0).toarray(), [[0.5, 0.5, 0], [0, 0, 1]])
    np.testing.assert_allclose(
        cell_means(3, 1.5).toarray(), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6
    )


def test_specks_call_for_no_tile() -> None:
    found = np.zeros((30, 30, 30), dtype=bool)
    found[2:4, 2:4, 2:4] = found[10:25, 10:25, 10:25] = True
    kept = without_specks(found, (1.0, 1.0, 1.0))
    assert kept.sum() == 15**3 and not kept[2, 2, 2]


def a_bright_rod(mode: str) -> Prepared:
    """A leaning rod in a wide volume, as prepared for the network: 240 × 250 × 40 mm."""
    rng = np.random.default_rng(0)
    voxels = rng.normal(100.0, 5.0, (40, 250, 240)).astype(np.float32)
    for row in range(240):
        at = 60 + row // 6
        voxels[12:28, at : at + 30, row] += 400.0
    affine = np.array([[0, 0, -1, 30], [0, 1, 0, -170], [-1, 0, 0, 150], [0, 0, 0, 1]], dtype=float)
    return preprocess(Volume(voxels[None], affine), SPEC, Options(mode=mode))


def threshold(patches: np.ndarray) -> np.ndarray:
    """A network whose answer at a voxel depends on this voxel alone, so that tiles cannot matter."""
    logits = np.zeros((len(patches), SPEC.network_channels, *patches.shape[2:]), np.float16)
    logits[:, 0] = 1
    logits[:, 1] = np.where(patches[:, 0] > BRIGHT / 2, BRIGHT, 0)
    return logits


@pytest.mark.parametrize("with_scout", [False, True])
def test_fast_gives_what_all_tiles_give_where_tiles_do_not_matter(with_scout: bool) -> None:
    coarse = replace(SPEC, name="scout", spacing_mm=(5.0, 5.0, 5.0), patch_size=(64, 64, 16))
    scout = Scout(coarse, threshold) if with_scout else None
    every = segment_tiles(a_bright_rod("default"), SPEC, threshold)
    fast = segment_tiles(a_bright_rod("fast"), SPEC, threshold, scout=scout)
    assert every.tiles.in_all == every.tiles.run == fast.tiles.in_all > fast.tiles.run
    assert (fast.tiles.coarse > 0) == with_scout
    assert every.classes.any()
    np.testing.assert_array_equal(fast.classes, every.classes)


@pytest.mark.parametrize("mode", ["default", "fast"])
def test_an_answer_is_let_go_before_the_next_is_asked_for(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "thread_count", lambda: 1)  # a thread forgets its last part a little later
    answers: list[weakref.ref[np.ndarray]] = []

    def network(patches: np.ndarray) -> np.ndarray:
        assert all(answer() is None for answer in answers)  # else both take their place in shared memory
        logits = threshold(patches)
        answers.append(weakref.ref(logits))
        return logits

    segment_tiles(a_bright_rod(mode), SPEC, network)
    assert len(answers) > 1


def test_a_scout_that_sees_other_volumes_is_refused() -> None:
    other = replace(SPEC, name="scout", reader="as_is")
    with pytest.raises(ModelError, match="reader"):
        coarse_pass.check_scout(other, SPEC)
