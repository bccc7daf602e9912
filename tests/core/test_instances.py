"""Single vertebrae and discs from class maps whose parts are known."""

import numpy as np

from spinecore.chain import Chain, Kind
from spinecore.instances import find_chain
from spinecore.labels import Class

BODY_VOXELS = 20 * 24 * 30
DISC_VOXELS = 6 * 24 * 30


def chain_of(spine) -> Chain:
    return find_chain(spine.classes, spine.affine)


def kinds(chain: Chain) -> list[str]:
    return [bone.kind.value for bone in chain.bones]


def test_an_empty_map_has_an_empty_chain() -> None:
    chain = find_chain(np.zeros((5, 5, 5), np.uint8), np.eye(4))
    assert chain.bones == () and chain.discs == ()


def test_each_body_and_disc_is_one_instance(box_spine, column) -> None:
    spine = box_spine(column(5, bottom="sacrum"))
    chain = chain_of(spine)
    assert kinds(chain) == ["body"] * 5 + ["sacrum"]
    assert [len(b.voxels) for b in chain.bones[:5]] == [BODY_VOXELS] * 5
    assert [len(d.voxels) for d in chain.discs] == [DISC_VOXELS] * 5
    assert all(chain.trusted) and not chain.doubts


def test_members_run_from_the_head_downward(box_spine, column) -> None:
    spine = box_spine(column(3, top="c2"))
    chain = chain_of(spine)
    assert kinds(chain) == ["c2", "body", "body", "body"]
    for bone, (_, low, high) in zip(chain.bones, spine.spans[::2], strict=True):
        z = np.unravel_index(bone.voxels, spine.classes.shape)[0]
        assert (z.min(), z.max() + 1) == (low, high)


def test_a_disc_at_the_end_has_a_bone_beyond_it_that_is_not_seen(box_spine) -> None:
    chain = chain_of(box_spine(["disc", "body", "disc", "body"]))
    assert [bone.seen for bone in chain.bones] == [False, True, True]


def test_a_disc_in_two_parts_is_one_disc(box_spine, column) -> None:
    spine = box_spine(column(4))
    _, low, high = spine.spans[3]
    spine.classes[low + 2 : high - 2][spine.classes[low + 2 : high - 2] == Class.DISC] = Class.BACKGROUND
    chain = chain_of(spine)
    assert len(chain.discs) == 3 and sum(bone.seen for bone in chain.bones) == 4


def test_disc_voxels_inside_a_body_do_not_divide_it(box_spine, column) -> None:
    spine = box_spine(column(4))
    _, low, _ = spine.spans[2]
    spine.classes[low + 8 : low + 12, 20:25, 20:25] = Class.DISC
    chain = chain_of(spine)
    assert len(chain.discs) == 3 and len(chain.bones) == 4


def test_bodies_without_a_disc_are_divided_at_the_gap(box_spine) -> None:
    members = ["body", "disc", "body", "gap6", "body", "disc", "body", "disc", "body"]
    chain = chain_of(box_spine(members))
    assert [len(b.voxels) for b in chain.bones] == [BODY_VOXELS] * 5
    assert [disc is None for disc in chain.discs] == [False, True, False, False]
    assert all(chain.trusted)


def test_a_block_as_long_and_as_large_as_two_vertebrae_is_two(box_spine) -> None:
    chain = chain_of(_fused(box_spine))
    assert [disc is None for disc in chain.discs] == [False, True, False, False]
    assert all(chain.trusted)
    halves = [len(bone.voxels) for bone in chain.bones[1:3]]
    assert abs(halves[0] - halves[1]) <= 0.05 * BODY_VOXELS


def test_fused_bodies_that_are_long_but_not_large_enough_for_two_end_the_trust(box_spine) -> None:
    spine = _fused(box_spine)
    _, low, high = spine.spans[3]
    spine.classes[low - 20 : high + 20, :, 15:] = Class.BACKGROUND
    chain = chain_of(spine)
    assert len(chain.bones) == 4
    assert chain.trusted == (False, False, True)


def _fused(box_spine):
    """Two bodies without a disc or a waist between them."""
    spine = box_spine(["body", "disc", "body", "gap6", "body", "disc", "body", "disc", "body"])
    _, low, high = spine.spans[3]
    spine.classes[low:high] = np.where(spine.classes[high] == Class.BODY, Class.BODY, spine.classes[low:high])
    return spine


def test_a_body_not_segmented_between_two_discs_is_counted_in(box_spine) -> None:
    chain = chain_of(box_spine(["body", "disc", "body", "disc", "gap20", "disc", "body", "disc", "body"]))
    assert [bone.seen for bone in chain.bones] == [True, True, False, True, True]
    assert all(chain.trusted)


def test_a_missing_level_ends_the_trust(box_spine) -> None:
    members = ["body", "disc", "body", "disc", "body", "disc", "gap46", "disc", "body", "disc", "body"]
    chain = chain_of(box_spine(members))
    assert [bone.seen for bone in chain.bones] == [True, True, True, False, True, True]
    assert chain.trusted == (True, True, False, False, True)


def test_a_rudimentary_disc_in_the_sacrum_belongs_to_the_sacrum(box_spine, column) -> None:
    spine = box_spine([*column(3), "disc", "sacrum", "rudiment", "sacrum"])
    chain = chain_of(spine)
    assert kinds(chain) == ["body"] * 3 + ["sacrum"] and len(chain.discs) == 3
    assert Kind.SACRUM not in chain.doubts


def test_specks_of_disc_in_c2_do_not_divide_it(box_spine, column) -> None:
    spine = box_spine(column(5, top="c2"))
    _, low, _ = spine.spans[0]
    spine.classes[low + 5 : low + 8][spine.classes[low + 5 : low + 8] == Class.C2] = Class.DISC
    chain = chain_of(spine)
    assert kinds(chain) == ["c2", *["body"] * 5] and not chain.doubts


def test_a_full_disc_in_the_sacrum_is_kept_and_the_sacrum_doubted(box_spine, column) -> None:
    chain = chain_of(box_spine([*column(3), "disc", "sacrum", "disc", "sacrum"]))
    assert len(chain.discs) == 4
    assert "full size" in chain.doubts[Kind.SACRUM]


def test_too_little_sacrum_is_doubted_where_the_image_ends(box_spine, column) -> None:
    spine = box_spine(column(3, bottom="sacrum"), margin=0)
    _, low, high = spine.spans[-1]
    spine.classes[low : high - 2][spine.classes[low : high - 2] == Class.SACRUM] = Class.BACKGROUND
    chain = chain_of(spine)  # 2 x 24 x 30 = 1440 mm³ left
    assert "too little" in chain.doubts[Kind.SACRUM]


def test_an_overlooked_last_disc_leaves_the_last_body_its_own(box_spine, column) -> None:
    chain = chain_of(box_spine([*column(4), "gap6", "sacrum"]))
    assert kinds(chain) == ["body"] * 4 + ["sacrum"]
    assert chain.discs[-1] is None and len(chain.bones[3].voxels) == BODY_VOXELS
    assert not chain.doubts


def test_a_body_that_runs_into_the_sacrum_puts_it_in_doubt(box_spine, column) -> None:
    chain = chain_of(box_spine([*column(4), "sacrum"]))  # S1 called a body by the network looks like this
    assert kinds(chain) == ["body"] * 4 + ["sacrum"]
    assert "part of it" in chain.doubts[Kind.SACRUM]


def test_sacral_wings_beside_the_last_body_stay_with_the_sacrum(box_spine, column) -> None:
    spine = box_spine(column(3, bottom="sacrum"))
    _, low, high = spine.spans[-1]
    spine.classes[low : high + 10, 13:37, 2:8] = Class.SACRUM
    spine.classes[low:high, 13:37, 8:10] = Class.SACRUM
    chain = chain_of(spine)
    assert len(chain.bones[2].voxels) == BODY_VOXELS


def test_sacrum_voxels_inside_a_body_become_body(box_spine, column) -> None:
    spine = box_spine(column(3, bottom="sacrum"))
    _, low, _ = spine.spans[2]
    spine.classes[low + 5 : low + 12, 15:25, 15:25] = Class.SACRUM
    assert len(chain_of(spine).bones[1].voxels) == BODY_VOXELS


def test_c2_cut_by_the_image_counts_from_the_length_that_only_its_dens_gives(box_spine, column) -> None:
    for kept, usable in ((28, True), (24, False)):  # mm of C2 in view; the discs are 26 mm apart
        spine = box_spine(column(4, top="c2"), margin=0)
        _, low, _ = spine.spans[0]
        spine.classes = spine.classes[: low + kept]
        chain = chain_of(spine)
        assert (chain.index_of(Kind.C2) == 0) is usable
        assert ("any cervical vertebra" in chain.doubts.get(Kind.C2, "")) is not usable


def test_the_edge_of_a_disc_at_the_border_is_no_disc(box_spine, column) -> None:
    for kept_mm, discs in ((8, 3), (16, 4)):  # of the last disc's 24 mm from back to front
        spine = box_spine([*column(4), "disc"], margin=0)
        _, low, high = spine.spans[-1]
        disc = spine.classes[low:high]
        disc[:, 13 + kept_mm :][disc[:, 13 + kept_mm :] == Class.DISC] = Class.BACKGROUND
        assert len(chain_of(spine).discs) == discs
