"""Which vertebra each slot is in spines of another count, and that nothing is unusual unless asked for."""

import numpy as np
import pytest

from spinecore.phantom import PhantomConfig
from spinecore.phantom.variants import Variant, draw_variant


def variant(**choices: object) -> Variant:
    return draw_variant(np.random.default_rng(5), PhantomConfig(seed=1, **choices))  # type: ignore[arg-type]


def test_by_default_the_count_is_the_usual_one_and_nothing_is_fused() -> None:
    usual = variant()
    assert usual.kind == "usual" and usual.s1 == 4 and not usual.fused and not usual.slits
    assert usual.labels == (26,) * 5 + tuple(range(24, 1, -1))
    assert np.array_equal(usual.roles, np.arange(28))


@pytest.mark.parametrize(
    ("kind", "s1", "names"),
    [
        ("l6", 3, ["S1", "L6", "L5", "L4", "L3", "L2", "L1", "T12"]),
        ("lumbarised_s1", 3, ["S1", "L6", "L5", "L4", "L3", "L2", "L1", "T12"]),
        ("t13", 3, ["S1", "L5", "L4", "L3", "L2", "L1", "T13", "T12"]),
        ("sacralised_l5", 5, ["S1", "L4", "L3", "L2", "L1", "T12", "T11", "T10"]),
    ],
)
def test_names_upward_from_the_sacrum(kind: str, s1: int, names: list[str]) -> None:
    other = variant(variant=kind)
    assert other.s1 == s1 and [other.name_of(k) for k in range(s1, s1 + 8)] == names
    assert other.name_of(27) == "C2" and other.name_of(26) == "C3"


def test_all_kinds_are_drawn_and_fused_discs_lie_between_mobile_vertebrae() -> None:
    kinds = set()
    for seed in range(60):
        config = PhantomConfig(seed=seed, transitional=1.0, fused=0.5)
        drawn = draw_variant(np.random.default_rng(seed), config)
        kinds.add(drawn.kind)
        closed = drawn.fused | drawn.slits
        assert closed and min(closed) > drawn.s1 and max(closed) < 26 and not drawn.fused & drawn.slits
    assert kinds == {"l6", "t13", "lumbarised_s1", "sacralised_l5"}
