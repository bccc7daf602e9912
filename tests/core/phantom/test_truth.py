"""The truth is held against rulers laid on a label map rendered at 0.3 mm."""

from __future__ import annotations

import numpy as np
import pytest

from spinecore.labels import CANAL, disc_label
from spinecore.phantom import PhantomConfig
from spinecore.phantom.canal import Canal, draw_canal
from spinecore.phantom.canvas import Canvas, blank_canvas
from spinecore.phantom.column import C2, L5, S1, Column, draw_column
from spinecore.phantom.curve import F64
from spinecore.phantom.grid import Grid
from spinecore.phantom.spine import paint_body, paint_c2, paint_canal, paint_disc, paint_sacral_segment
from spinecore.phantom.truth import (
    DiscGeometry,
    canal_chord,
    canal_levels,
    crossing,
    disc_geometry,
    height_lines,
    level_geometry,
)
from spinecore.phantom.variants import draw_variant

STEP_MM = 0.3
RIM = (1.0, 1.0)
LEVELS = {"L5/S1": 4, "L3/L4": 6, "T8/T9": 13, "C5/C6": 23, "C2/C3": 26}


def patient(seed: int) -> tuple[Column, Canal]:
    rng = np.random.default_rng([seed, 0])
    config = PhantomConfig(seed=seed, stenosis=0.5, bulge=0.5, scoliosis=1.5)
    column = draw_column(rng, config, draw_variant(np.random.default_rng([seed, 4]), config))
    return column, draw_canal(rng, column)


def chord_of(column: Column, canal: Canal, level: DiscGeometry, index: int) -> F64:
    s = crossing(column.curve, canal, level, column.positions_mm[index])
    return canal_chord(column.curve, canal, level, s)


def render(column: Column, canal: Canal, index: int) -> Canvas:
    """All labelled structures in a thin slab round the midline of one disc."""
    middle = disc_geometry(column.vertebrae[index], column.vertebrae[index + 1]).origin
    halves = (5.0, 52.0, 26.0)
    axes = [np.arange(c - h, c + h, STEP_MM) for c, h in zip(middle, halves, strict=True)]
    canvas = blank_canvas(column, canal, Grid(*axes))
    rng = np.random.default_rng(0)
    paint_canal(rng, canvas)
    for vertebra in column.vertebrae[: S1 + 1]:
        paint_sacral_segment(rng, canvas, vertebra, RIM)
    paint_c2(rng, canvas, column.vertebrae[C2], RIM)
    for disc in range(max(S1, index - 1), min(C2, index + 2)):
        paint_disc(rng, canvas, disc)
    for vertebra in column.vertebrae[max(L5, index - 1) : min(C2, index + 3)]:
        paint_body(rng, canvas, vertebra, RIM)
    return canvas


def ruler(canvas: Canvas, line: F64, aside: F64, label: int) -> float:
    """Length in mm of `label` along the line's direction, averaged over parallels shifted along `aside`."""
    middle, direction = line.mean(axis=0), line[1] - line[0]
    direction = direction / np.linalg.norm(direction)
    along, shifts = np.arange(-24, 24, 0.05), np.linspace(-0.9, 0.9, 13)
    points = middle + along[:, None, None] * direction + shifts[:, None] * aside
    grid = canvas.grid
    origin = np.array([grid.x_mm[0], grid.y_mm[0], grid.z_mm[0]])
    index = np.rint((points - origin) / STEP_MM).astype(int)
    index = np.clip(index, 0, np.array(canvas.labels.shape[::-1]) - 1)
    hits = canvas.labels[index[..., 2], index[..., 1], index[..., 0]] == label
    return float(hits.sum(axis=0).mean() * 0.05)


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("index", LEVELS.values(), ids=LEVELS)
def test_heights_and_canal_match_the_rendered_labels(seed: int, index: int) -> None:
    column, canal = patient(seed)
    lower, upper = column.vertebrae[index], column.vertebrae[index + 1]
    disc = disc_geometry(lower, upper)
    canvas = render(column, canal, index)
    for line in height_lines(lower, upper, disc, np.array([0.85, 0.5, 0.15])):
        true = float(np.linalg.norm(line[1] - line[0]))
        assert ruler(canvas, line, disc.axes[2], disc_label(upper.label)) == pytest.approx(true, abs=0.25)
    chord = chord_of(column, canal, disc, index)
    true = float(np.linalg.norm(chord[1] - chord[0]))
    assert ruler(canvas, chord, disc.axes[2], CANAL) == pytest.approx(true, abs=0.25)


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("index", [6, 13, 23], ids=["L4", "T9", "C6"])
def test_the_canal_behind_a_body_and_its_narrowest_place_match_the_rendered_labels(
    seed: int, index: int
) -> None:
    column, canal = patient(seed)
    level = canal_levels(column, canal, {2 * index})[2 * index]
    left = level_geometry(column, 2 * index).axes[2]
    canvas = render(column, canal, index)
    true = float(np.linalg.norm(level.chord[1] - level.chord[0]))
    assert ruler(canvas, level.chord, left, CANAL) == pytest.approx(true, abs=0.25)
    neighbours = [crossing(column.curve, canal, level_geometry(column, n), column.positions_mm[index])
                  for n in (2 * index - 1, 2 * index + 1)]  # fmt: skip
    ends = [(level.s_mm + s) / 2 for s in neighbours]
    along = [canal_chord(column.curve, canal, level_geometry(column, 2 * index), s)
             for s in np.linspace(*ends, 9)]  # fmt: skip
    smallest = min(ruler(canvas, chord, left, CANAL) for chord in along)
    assert level.min_ap_mm == pytest.approx(smallest, abs=0.4)  # parallels to the sides count too


@pytest.mark.parametrize("seed", range(20, 26))
def test_endplates_never_touch_and_heights_are_plausible(seed: int) -> None:
    column, _ = patient(seed)
    for index in range(S1, C2):
        lower, upper = column.vertebrae[index], column.vertebrae[index + 1]
        lines = height_lines(lower, upper, disc_geometry(lower, upper), np.linspace(0.05, 0.95, 10))
        heights = np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1)
        assert heights.min() > 1.0 and heights.max() < 24.0


@pytest.mark.parametrize("seed", range(20, 26))
def test_disc_frames_are_right_handed_and_point_cranially_and_anteriorly(seed: int) -> None:
    column, _ = patient(seed)
    for index in range(S1, C2):
        axes = disc_geometry(column.vertebrae[index], column.vertebrae[index + 1]).axes
        assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-9)
        assert np.allclose(np.cross(axes[0], axes[1]), axes[2])
        assert axes[0, 2] > 0 and axes[1, 1] < 0 and axes[2, 0] > 0.9


def test_a_stenosis_narrows_the_canal_where_it_sits() -> None:
    column, canal = patient(31)
    narrow = [d.index for d in column.discs if d.stenosis > 0.2 and S1 + 1 < d.index < C2 - 1]
    assert narrow

    def chord(index: int) -> float:
        disc = disc_geometry(column.vertebrae[index], column.vertebrae[index + 1])
        ends = chord_of(column, canal, disc, index)
        return float(np.linalg.norm(ends[1] - ends[0]))

    free = np.mean([chord(d.index) for d in column.discs[S1 + 1 :] if d.stenosis == 0 and d.protrusion == 0])
    assert np.mean([chord(index) for index in narrow]) < 0.93 * free
