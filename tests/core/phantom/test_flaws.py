"""What spoils an image changes the image, and nothing that is true of the anatomy."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from spinecore.labels import DISC_OFFSET, SACRUM
from spinecore.phantom import PhantomConfig, make_phantom
from spinecore.phantom.config import Flaw
from spinecore.phantom.flaws import metal, missing_signal, moved
from spinecore.phantom.make import _draw_flaw

KINDS: tuple[Flaw, ...] = get_args(Flaw)
CONFIG = PhantomConfig(
    seed=5, region="lumbar", contrast="t2", spacing_mm=(2.0, 2.0, 2.0), fov_mm=(150.0, 130.0, 60.0)
)


@pytest.mark.parametrize("flaw", KINDS)
def test_a_flaw_is_in_the_image_alone(flaw: Flaw) -> None:
    clean, spoilt = make_phantom(CONFIG), make_phantom(replace(CONFIG, flaw=flaw))
    assert spoilt.image.shape == clean.image.shape and not np.array_equal(spoilt.image, clean.image)
    assert np.array_equal(spoilt.labels, clean.labels) and np.array_equal(spoilt.affine, clean.affine)
    assert spoilt.truth.to_json() == clean.truth.to_json()
    assert np.array_equal(make_phantom(replace(CONFIG, flaw=flaw)).image, spoilt.image)


def test_flaws_are_drawn_as_often_as_asked_for() -> None:
    drawn = [_draw_flaw(PhantomConfig(seed=seed, spoiled=0.3)) for seed in range(300)]
    assert {*KINDS} == {flaw for flaw in drawn if flaw}
    assert sum(flaw is not None for flaw in drawn) == pytest.approx(90, abs=25)
    assert not any(_draw_flaw(PhantomConfig(seed=seed)) for seed in range(50))
    with pytest.raises(ValueError, match=r"flaw must be one of .* got 'rust'"):
        PhantomConfig(seed=1, flaw="rust")  # type: ignore[arg-type]


def test_who_lies_still_is_seen_as_he_lies() -> None:
    image = np.random.default_rng(0).random((40, 30, 8), dtype=np.float32)
    np.testing.assert_allclose(moved(image, 0, reach=0.0, cycles=5, phase=1.0), image, atol=1e-5)


def test_a_swinging_point_has_ghosts_as_far_off_as_it_swung_often() -> None:
    point = np.zeros((128, 5, 3), np.float32)
    point[64, 2, 1] = 1.0
    seen = moved(point, 0, reach=1.0, cycles=16, phase=0.0)
    line = seen[:, 2, 1]
    assert int(line.argmax()) == 64 and line[64] < 1.0
    ghosts = np.delete(np.arange(128), 64)
    above, below = sorted(ghosts[np.argsort(line[ghosts])[-2:]])
    assert abs(above - 48) <= 1 and abs(below - 80) <= 1
    assert (seen**2).sum() == pytest.approx(1.0, rel=1e-5)  # energy only moves
    assert np.delete(seen.reshape(128, -1), 2 * 3 + 1, axis=1).max() < 1e-6


def test_screws_take_the_signal_of_bodies_and_leave_the_rest() -> None:
    phantom = make_phantom(replace(CONFIG, orientation="LPS"))  # the patient's own axes
    image = np.full(phantom.labels.shape, 100.0, np.float32)
    spoilt = metal(np.random.default_rng(1), image, phantom.labels, (2.0, 2.0, 2.0))
    body = (phantom.labels > 0) & (phantom.labels < DISC_OFFSET) & (phantom.labels != SACRUM)
    dark = spoilt < 10
    assert (dark & body).sum() * 8 > 500 and dark.mean() < 0.05
    assert (spoilt > 110).any()  # piled up beside
    assert (np.abs(spoilt - 100) < 1).mean() > 0.8
    empty = np.zeros_like(phantom.labels)
    assert metal(np.random.default_rng(1), image, empty, (2.0, 2.0, 2.0)) is image


def test_signal_goes_missing_in_a_slice_or_in_a_hole() -> None:
    image, labels = np.full((60, 50, 9), 100.0, np.float32), np.zeros((60, 50, 9), np.uint8)
    labels[20:40, 20:30, 3:6] = 20
    kinds = set()
    for seed in range(40):
        spoilt = missing_signal(np.random.default_rng(seed), image, labels, (1.0, 1.0, 4.0))
        lost = [n for n in range(9) if (spoilt[:, :, n] < 16).all()]
        kinds.add("slice" if lost else "hole")
        if lost:
            assert len(lost) == 1 and (np.delete(spoilt, lost[0], axis=2) == 100).all()
        else:
            assert spoilt.min() >= 0 and spoilt.max() <= 100 + 1e-3
    assert kinds == {"slice", "hole"}
