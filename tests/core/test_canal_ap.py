"""Chords of the canal's mask, column by column."""

from __future__ import annotations

import numpy as np

from spinecore.canal_ap import CHORD_GRID, _nearest_run, _nearest_runs

A = CHORD_GRID.coordinates(1)


def test_all_columns_together_keep_what_each_keeps_alone() -> None:
    rng = np.random.default_rng(5)
    columns = rng.random((40, len(A))) * (rng.random((40, len(A))) < np.linspace(0, 1, 40)[:, None])
    columns[:10, 60:90] = np.linspace(0.01, 1, 30)  # one run, with a value too small to count before it
    columns[:10, :60] = columns[:10, 90:] = 0.0
    together = _nearest_runs(columns, A)
    assert (together == np.array([_nearest_run(column, A) for column in columns])).all()
    assert (together[:10] > 0).sum() == 10 * 29 and together[39].any()


def test_of_two_runs_the_one_at_the_centre_line_is_kept() -> None:
    column = np.zeros(len(A))
    column[np.abs(A - 1.0) < 2.0] = 0.5
    column[np.abs(A + 12.0) < 4.0] = 1.0
    assert (_nearest_runs(column[None], A)[0] == np.where(A > -5.0, column, 0.0)).all()
